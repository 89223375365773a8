"""Trains cells: several runs of one net side by side, in one compiled program."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.depth_limit.nets import KINDS, Net, Params, drawing, forward, kernel_norms
from experiments.depth_limit.presets import Preset
from experiments.trainability.cells import MOMENTUM
from vgg_jax.data.arrays import open_digits, open_npz
from vgg_jax.errors import UserError
from vgg_jax.rng import stream_key
from vgg_jax.training.steps import cross_entropy
from vgg_jax.xla import NETWORK, on_cpu

WINDOW = 20  # steps over which training loss and accuracy are averaged
FAST = 0.8  # training accuracy whose first step is stored
REFERENCE = 512  # training images whose statistics batch norm uses in evaluation

# (parameters, gradients, parameters at the start, gradients at the start) -> gradients
Adjust = Callable[[Params, Params, Params, Params], Params]


@dataclasses.dataclass(frozen=True)
class Data:
    """Images uint8 (N, H, W, colours) and labels (N,), and how to normalise them."""

    images: jax.Array
    labels: jax.Array
    test_images: jax.Array
    test_labels: jax.Array
    mean: np.ndarray
    deviation: np.ndarray

    def normalized(self, images: jax.Array) -> jax.Array:
        """Returns float32 images, mean 0 and variance 1 over the training set."""
        return (images.astype(jnp.float32) - self.mean) / self.deviation

    @property
    def reference(self) -> jax.Array:
        """Normalised training images for the statistics of batch norm."""
        return self.normalized(self.images[:REFERENCE])


@functools.cache
def load(name: str, data_dir: Path | None = None) -> Data:
    """Opens the digits in grey, or CIFAR-10 from an .npz file.

    Raises:
      UserError: no file is given, or it has no such arrays.
    """
    if name == "digits":
        train, test = open_digits("train"), open_digits("test")
    elif data_dir is None:
        raise UserError("give --data_dir=FILE.npz with the arrays of CIFAR-10")
    else:
        train, test = (open_npz(str(data_dir), name, split) for split in ("train", "test"))
    colours = slice(0, 1) if name == "digits" else slice(None)
    images, test_images = train.images[..., colours], test.images[..., colours]
    pixels = images.reshape(-1, images.shape[-1])
    return Data(
        jnp.asarray(images),
        jnp.asarray(train.labels),
        jnp.asarray(test_images),
        jnp.asarray(test.labels),
        pixels.mean(0, dtype=np.float64).astype(np.float32),
        pixels.std(0, dtype=np.float64).astype(np.float32),
    )


def make_net(kind: str, layers: int, channels: int, data: Data) -> Net:
    """Returns the net of a kind for some data; the stem brings images of 32 pixels to 8."""
    side, colours = data.images.shape[2:]
    return Net(layers, channels, side, colours, halve=side > 8, **KINDS[kind])


@dataclasses.dataclass(frozen=True)
class Runs:
    """Runs of one net, all arrays with a leading axis over them.

    Attributes:
      seeds: of weights and batches.
      relative_rates: of the first step, over the weights.
      rates: the learning rates that this made.
      params: after training.
      losses: (runs, steps), of the batches before their steps.
      hits: (runs, steps), shares of the batches that were right.
      accuracies: on the test images.
    """

    seeds: Sequence[int]
    relative_rates: Sequence[float]
    rates: np.ndarray
    params: Params
    losses: np.ndarray
    hits: np.ndarray
    accuracies: np.ndarray

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row per run."""
        return [
            {
                "seed": seed,
                "relative_rate": f"{relative:g}",
                "rate": f"{rate:.3g}",
                "loss": float(losses[-WINDOW:].mean()),
                "accuracy": float(accuracy),
                "steps_to_fast": steps_to(hits, FAST),
            }
            for seed, relative, rate, losses, accuracy, hits in zip(
                self.seeds,
                self.relative_rates,
                self.rates,
                self.losses,
                self.accuracies,
                self.hits,
                strict=True,
            )
        ]


def steps_to(hits: np.ndarray, accuracy: float) -> float:
    """Returns the first step by which the mean over `WINDOW` steps reached it, or NaN."""
    means = np.convolve(hits, np.ones(min(WINDOW, len(hits))) / WINDOW, "valid")
    there = np.flatnonzero(means >= accuracy)
    return float(there[0] + WINDOW) if len(there) else float("nan")


def tuned(
    net: Net,
    data: Data,
    preset: Preset,
    *,
    adjust: Adjust | None = None,
    warm_up: float = 0.0,
) -> tuple[list[dict[str, Any]], Runs]:
    """Tries every rate with seed 0, then trains `lanes` more seeds, and chooses a rate by these.

    The seeds begin at the rate that has the least training loss at the end with seed 0, and go
    down from rate to rate for as long as their mean loss falls: what one seed bears, others may
    not. Every row says whether its rate is the chosen one.

    Args:
      net: what to train.
      data: on what.
      preset: how long, and at which rates.
      adjust: what replaces the gradient on its way into momentum.
      warm_up: share of the steps in which the rate rises from zero.

    Returns:
      Rows of all runs, and the runs of the other seeds.
    """
    rows = []
    lanes, rates = preset.lanes, preset.relative_rates
    shared = {"adjust": adjust, "warm_up": warm_up}
    for first in range(0, len(rates), lanes):
        rows += train(net, data, preset, [0] * lanes, rates[first : first + lanes], **shared).rows()
    losses = [row["loss"] if math.isfinite(row["loss"]) else math.inf for row in rows]
    runs, least, chosen = None, math.inf, ""
    for rate in (*rates[int(np.argmin(losses)) :: -1], *preset.lower_rates[::-1]):
        others = train(net, data, preset, range(1, lanes + 1), [rate] * lanes, **shared)
        rows += others.rows()
        mean = others.losses[:, -WINDOW:].mean()
        if runs is not None and math.isfinite(least) and not mean < least:
            break
        least, runs, chosen = mean, others, f"{rate:g}"
    return [row | {"chosen": int(row["relative_rate"] == chosen)} for row in rows], runs


def train(
    net: Net,
    data: Data,
    preset: Preset,
    seeds: Sequence[int],
    relative_rates: Sequence[float],
    *,
    adjust: Adjust | None = None,
    warm_up: float = 0.0,
) -> Runs:
    """Trains a run per seed and rate: momentum SGD, the rate falling linearly to zero."""
    params = drawing(net)(jnp.stack([stream_key(seed, "params") for seed in seeds]))
    batches = np.stack([_order(seed, len(data.labels), preset) for seed in seeds])
    time = np.arange(preset.steps) / preset.steps
    schedule = np.minimum(time / warm_up, 1.0) if warm_up else 1.0
    trained, rates, losses, hits = _program(net, adjust)(
        params,
        jnp.asarray(relative_rates),
        jnp.asarray(batches),
        jnp.asarray((1 - time) * schedule, jnp.float32),
        (data.images, data.labels, data.mean, data.deviation),
    )
    found = jax.device_get((rates, losses, hits))
    return Runs(
        seeds, relative_rates, found[0], trained, *found[1:], accuracies(net, trained, data)
    )


def _order(seed: int, count: int, preset: Preset) -> np.ndarray:
    """Indices of every batch, (steps, batch size): epochs in random order."""
    rng = np.random.default_rng(seed)
    epochs = -(-preset.steps * preset.batch_size // count)
    order = np.concatenate([rng.permutation(count) for _ in range(epochs)])
    return order[: preset.steps * preset.batch_size].reshape(preset.steps, -1)


@functools.lru_cache(maxsize=2)
def _program(net: Net, adjust: Adjust | None) -> Callable[..., Any]:
    def loss_fn(params: Params, images: jax.Array, labels: jax.Array) -> Any:
        logits, _ = forward(net, params, images)
        return cross_entropy(logits, labels), jnp.mean(jnp.argmax(logits, -1) == labels)

    def run(
        start: Params, relative: jax.Array, batches: jax.Array, schedule: jax.Array, data: Any
    ) -> Any:
        all_images, all_labels, mean, deviation = data

        def gradient(params: Params, batch: jax.Array) -> Any:
            images = (all_images[batch].astype(jnp.float32) - mean) / deviation
            return jax.value_and_grad(loss_fn, has_aux=True)(params, images, all_labels[batch])

        _, first = gradient(start, batches[0])

        def adjusted(params: Params, grads: Params) -> Params:
            return grads if adjust is None else adjust(params, grads, start, first)

        rate = relative * _norm(start) / _norm(adjusted(start, first))

        def step(carry: Any, given: tuple[jax.Array, jax.Array]) -> Any:
            params, momentum = carry
            batch, factor = given
            (loss, hit), grads = gradient(params, batch)
            grads = adjusted(params, grads)
            momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, grads)
            params = jax.tree.map(lambda p, m: p - rate * factor * m, params, momentum)
            return (params, momentum), (loss, hit)

        zeros = jax.tree.map(jnp.zeros_like, start)
        (params, _), (losses, hits) = jax.lax.scan(step, (start, zeros), (batches, schedule))
        return params, rate, losses, hits

    side_by_side = jax.vmap(run, (0, 0, 0, None, None))
    return jax.jit(side_by_side, compiler_options=on_cpu(NETWORK))


def _norm(tree: Params) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(norms)) for norms in kernel_norms(tree).values()))


def accuracies(net: Net, params: Params, data: Data, kept: jax.Array | None = None) -> np.ndarray:
    """Returns the test accuracy of each run (runs,); `kept` as in `nets.forward`.

    Batch norm uses the statistics of `REFERENCE` training images in the whole net.
    """
    right = 0
    for first in range(0, len(data.test_labels), 1000):
        part = slice(first, first + 1000)
        images = data.normalized(data.test_images[part])
        right += _tester(net)(params, data.reference, images, data.test_labels[part], kept)
    return np.asarray(right) / len(data.test_labels)


@functools.lru_cache(maxsize=2)
def _tester(net: Net) -> Callable[..., jax.Array]:
    @jax.jit
    def right(
        params: Params,
        reference: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        kept: jax.Array | None,
    ) -> jax.Array:
        def of_run(params: Params) -> jax.Array:
            _, statistics = forward(net, params, reference)
            logits, _ = forward(net, params, images, statistics=statistics, kept=kept)
            return jnp.sum(jnp.argmax(logits, -1) == labels)

        return jax.lax.map(of_run, params)

    return right
