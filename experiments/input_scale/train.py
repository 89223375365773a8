"""Trains a net from kernels of one standard deviation, at several input scales and rates."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import optax

from experiments.init_gradients.measure import initialized
from experiments.trainability.cells import load, momentum, network, outcome, programs

PAPER_STD = 0.01  # of the initialiser "paper"


def train(
    net: str,
    std: float,
    seed: int,
    cells: Sequence[tuple[float, float]],
    *,
    width: float,
    steps: int,
    batch_size: int,
    biases: bool = True,
) -> Iterator[dict[str, Any]]:
    """Yields a row for every pair of input scale and learning rate.

    Args:
      net: a variant's name.
      std: standard deviation of the kernels, see `start`.
      seed: of kernels and batches.
      cells: pairs (scale, rate).
      width: share of the paper's channels.
      steps: how many batches are trained on.
      batch_size: their size.
      biases: whether the biases are trained, or stay 0.
    """
    batches, test = load(steps, batch_size, seed)
    optimizer = momentum if biases else kernels_only
    run, probe, evaluate = programs(network(net, "none", width), optimizer)
    first = start(net, std, seed, width, batches[0]["image"])
    for scale, rate in cells:
        scaled = [batch | {"image": scale * batch["image"]} for batch in batches]
        before = jax.device_get(probe(first, scaled[0]))
        variables, losses = jax.device_get(run(first, rate, scaled))
        after = jax.device_get(probe(variables, scaled[-1]))
        accuracy = float(evaluate(variables, test | {"image": scale * test["image"]}))
        yield {
            "net": net,
            "std": std,
            "scale": scale,
            "biases": biases,
            "product": rate * scale**2,
            "learning_rate": rate,
            "seed": seed,
            "step": steps,
            "accuracy": accuracy,
            "loss": float(losses[-10:].mean()),
            "gradient_norm": float(np.linalg.norm(list(before["weight_grad_norm"].values()))),
            "outcome": outcome(accuracy, losses, before, after, rate),
        }


def kernels_only(rate: jax.Array) -> optax.GradientTransformation:
    """Returns the optimiser that leaves the biases where they start."""

    def is_bias(params: Any) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "bias", params)

    return optax.chain(momentum(rate), optax.masked(optax.set_to_zero(), is_bias))


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
