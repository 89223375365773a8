"""Does the paper's start train on images that are not divided by their standard deviation?

    python -m experiments.input_scale.run [--preset=quick|full] [--out=DIR]
    python -m experiments.input_scale.run --redraw [--preset=quick|full] [--out=DIR]

Trains nets without norm from kernels of one standard deviation, on digits of unit variance and on
the same times 58. Run it again to resume. Writes runs.csv, table.md, input_scale.png, record.json.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.init_gradients.measure import initialized
from experiments.input_scale import report
from experiments.trainability.cells import load, network, outcome, programs
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache

PAPER_STD = 0.01  # of the initialiser "paper"


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is trained: every net, standard deviation, scale and product, with every seed."""

    nets: tuple[str, ...]
    stds: tuple[float, ...]
    products: tuple[float, ...]  # of learning rate and squared input scale
    seeds: int
    width: float = 0.125
    steps: int = 200
    batch_size: int = 32


PRODUCTS = (0.003, 0.03, 0.3, 3.0, 30.0, 300.0)
PRESETS = {
    "quick": Preset(("A",), (0.01, 0.03), (0.03, 3.0), 1, steps=60),
    "full": Preset(("A", "B", "D", "E"), (0.005, 0.01, 0.03, 0.1), PRODUCTS, 3),
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        train_all(PRESETS[arguments.preset], out / report.TABLE)
        record.write()
    report.write(stored(out / report.TABLE), out)
    return 0


def train_all(preset: Preset, path: Path) -> None:
    """Trains what the table at `path` lacks, and writes it after every net from every start."""
    enable_compilation_cache()
    rows: list[dict[str, Any]] = table_rows(read_table(path)) if path.exists() else []
    done = {(int(row["seed"]), row["net"], float(row["std"])) for row in rows}
    for seed, net, std in itertools.product(range(preset.seeds), preset.nets, preset.stds):
        if (seed, net, std) not in done:
            rows += train(net, std, seed, preset)
            write_table(path, rows, report.COLUMNS)
            print(f"seed {seed}, net {net}, standard deviation {std:g}: done", flush=True)


def train(net: str, std: float, seed: int, preset: Preset) -> Iterator[dict[str, Any]]:
    """Yields a row for every input scale and rate of one start."""
    batches, test = load(preset.steps, preset.batch_size, seed)
    run, probe, evaluate = programs(network(net, "none", preset.width))
    for scale in report.SCALES:
        scaled = [batch | {"image": scale * batch["image"]} for batch in batches]
        first = start(net, std, seed, preset.width, batches[0]["image"])
        before = jax.device_get(probe(first, scaled[0]))
        gradient = np.linalg.norm(list(before["weight_grad_norm"].values()))
        for product in preset.products:
            rate = product / scale**2
            variables, losses = jax.device_get(run(first, rate, scaled))
            after = jax.device_get(probe(variables, scaled[-1]))
            accuracy = evaluate(variables, test | {"image": scale * test["image"]})
            yield {
                "net": net,
                "std": std,
                "scale": scale,
                "product": product,
                "learning_rate": rate,
                "seed": seed,
                "step": preset.steps,
                "accuracy": float(accuracy),
                "loss": float(losses[-10:].mean()),
                "gradient_norm": float(gradient),
                "outcome": outcome(float(accuracy), losses, before, after, rate),
            }


def start(net: str, std: float, seed: int, width: float, images: jax.Array) -> dict[str, Any]:
    """Returns kernels of a standard deviation that belongs to the full width; biases of 0.

    Divided by the root of the width multiplier it gives a layer the forward gain of the full width.
    Not so conv1_1, which sees three channels at any width.
    """
    model = network(net, "none", width).clone(kernel_init="paper")
    params = dict(initialized(model, seed, images)["params"])
    for layer in model.layer_names:
        gain = std / PAPER_STD * (1 if layer == "conv1_1" else width**-0.5)
        params[layer] = params[layer] | {"kernel": gain * params[layer]["kernel"]}
    return {"params": params, "batch_stats": {}}


if __name__ == "__main__":
    run_command(main)
