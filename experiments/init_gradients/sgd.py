"""How a few steps of SGD change an initialisation: the gradients after them, and the loss."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.init_gradients.grid import Cell
from experiments.init_gradients.measure import (
    Batch,
    Variables,
    compiled_probe,
    draw_batches,
    initialized,
    loss_of,
    network,
)
from vgg_jax.models import VGG
from vgg_jax.runs.tables import COLUMNS, tidy_rows

SHOWN = ("activation_grad_rms", "loss")
SGD_COLUMNS = (*COLUMNS[:-3], "width", "learning_rate", *COLUMNS[-3:])


@dataclasses.dataclass(frozen=True)
class Descent:
    """Runs of SGD without momentum or decay, from one initialisation at several rates."""

    net: str
    init: str
    norm: str
    pooling: str
    width: float
    rates: tuple[float, ...]
    seeds: int
    steps: tuple[int, ...]  # after which to measure
    batch_size: int


SHORT = (0, 1, 10, 30)
QUESTIONS = (
    # How the growth of the gradient with batch norm changes. It does not depend on the width.
    Descent("D", "he_fan_in", "batch", "none", 0.25, (0.1,), 5, (0, 1, 10, 100), 32),
    # Whether the paper's "variance 10^-2" trains, beside He's: the paper's net A at full width.
    Descent("A", "paper_variance", "none", "max", 1.0, (1e-2, 1e-4, 1e-6, 1e-8), 1, SHORT, 16),
    Descent("A", "he_fan_in", "none", "max", 1.0, (1e-2,), 1, SHORT, 16),
)


def measure_descent(descent: Descent, data: str, data_dir: str | None) -> list[dict[str, Any]]:
    """Returns tidy rows: the layers' gradient RMS, and the loss, whose layer is "all"."""
    cell = Cell(
        descent.net, descent.init, descent.norm, "relu", descent.pooling, data, descent.batch_size
    )
    model = network(cell).clone(width=descent.width)
    probe, step = compiled_probe(model, SHOWN), compiled_step(model)
    rows: list[dict[str, Any]] = []
    for seed in range(descent.seeds):
        batches = draw_batches(data, descent.batch_size, seed, data_dir, descent.steps[-1] + 1)
        for rate in descent.rates:
            variables = initialized(model, seed, batches[0][0])
            for done, batch in enumerate(batches):
                if done in descent.steps:
                    measured = jax.device_get(probe(variables, *batch))
                    columns = dataclasses.asdict(cell) | {
                        "seed": seed,
                        "step": done,
                        "width": descent.width,
                        "learning_rate": rate,
                    }
                    rows += tidy_rows(measured, model.layer_names, **columns)
                variables = step(variables, jnp.float32(rate), batch)
            print(f"{descent.net} {descent.init} seed {seed}, rate {rate:g}: done", flush=True)
    return rows


def compiled_step(model: VGG) -> Callable[[Variables, jax.Array, Batch], Variables]:
    """Returns the jitted (variables, rate, batch) -> variables after a step of plain SGD."""

    @jax.jit
    def step(variables: Variables, rate: jax.Array, batch: Batch) -> Variables:
        loss_fn = loss_of(model, variables.get("batch_stats", {}), batch)
        grads = jax.grad(lambda params: loss_fn(params, {})[0])(variables["params"])
        moved = jax.tree.map(lambda p, g: p - rate * g, variables["params"], grads)
        return {**variables, "params": moved}

    return step
