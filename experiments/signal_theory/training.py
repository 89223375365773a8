"""Trains deep tanh nets on digits, from weights of one variance."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.signal_theory.presets import BIAS_VARIANCE, Preset
from vgg_jax.data.arrays import open_digits
from vgg_jax.rng import stream_key
from vgg_jax.training.steps import cross_entropy

BATCH = 32
MOMENTUM = 0.9
CLASSES = 10

Params = dict[str, jax.Array]


def train_cell(depth: int, variance: float, preset: Preset) -> list[dict[str, Any]]:
    """Returns a row per run: every rate from the first seed, the best one from the others.

    The best rate is that of the least training loss; accuracies are of the test images.
    """
    rows = [_train(depth, variance, 0, rate, preset) for rate in preset.rates]
    best = min(rows, key=lambda row: row["loss"] if math.isfinite(row["loss"]) else math.inf)
    rows += [
        _train(depth, variance, seed, best["rate"], preset)
        for seed in range(1, preset.trained_seeds)
    ]
    return [row | {"chosen": int(row["rate"] == best["rate"])} for row in rows]


def _train(depth: int, variance: float, seed: int, rate: float, preset: Preset) -> dict[str, Any]:
    images, labels = digits("train")
    params = _initial(depth, variance, preset.trained_width, seed)
    momentum = jax.tree.map(jnp.zeros_like, params)
    rng = np.random.default_rng(seed)
    losses = []
    for _ in range(preset.steps):
        batch = rng.choice(len(labels), BATCH, replace=False)
        params, momentum, loss = _step(params, momentum, rate, images[batch], labels[batch])
        losses.append(loss)
        if len(losses) % 20 == 0 and not math.isfinite(loss):
            break  # it stays so
    return {
        "variance": f"{variance:g}",
        "layers": depth,
        "rate": rate,
        "seed": seed,
        "loss": float(np.mean(losses[-20:])),
        "accuracy": float(_accuracy(params, *digits("test"))),
    }


def _initial(depth: int, variance: float, width: int, seed: int) -> Params:
    """Weights of that variance over the fan-in, but 1 over the fan-in for the classifier."""
    keys = jax.random.split(stream_key(seed, "params"), 4)
    pixels = digits("train")[0].shape[1]
    deviation = math.sqrt(variance)
    biases = jax.random.normal(keys[3], (depth, width)) * math.sqrt(BIAS_VARIANCE)
    return {
        "first": jax.random.normal(keys[0], (pixels, width)) * deviation / math.sqrt(pixels),
        "hidden": jax.random.normal(keys[1], (depth - 1, width, width))
        * (deviation / math.sqrt(width)),
        "last": jax.random.normal(keys[2], (width, CLASSES)) / math.sqrt(width),
        "biases": biases,
        "last_bias": jnp.zeros(CLASSES),
    }


def _logits(params: Params, images: jax.Array) -> jax.Array:
    def layer(x: jax.Array, weights: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        kernel, bias = weights
        return jnp.tanh(x @ kernel + bias), None

    x = jnp.tanh(images @ params["first"] + params["biases"][0])
    x, _ = jax.lax.scan(layer, x, (params["hidden"], params["biases"][1:]))
    return x @ params["last"] + params["last_bias"]


@jax.jit
def _step(
    params: Params, momentum: Params, rate: float, images: jax.Array, labels: jax.Array
) -> tuple[Params, Params, jax.Array]:
    def loss_fn(params: Params) -> jax.Array:
        return cross_entropy(_logits(params, images), labels)

    loss, grads = jax.value_and_grad(loss_fn)(params)
    momentum = jax.tree.map(lambda m, g: MOMENTUM * m + g, momentum, grads)
    return jax.tree.map(lambda p, m: p - rate * m, params, momentum), momentum, loss


@jax.jit
def _accuracy(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(jnp.argmax(_logits(params, images), -1) == labels)


@functools.cache
def digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (N, 64) of mean 0 and variance 1 over the training set, and labels (N,)."""
    train, source = open_digits("train").images, open_digits(split)
    images = (source.images[..., 0] - train.mean()) / train.std()
    return images.reshape(len(images), -1).astype(np.float32), source.labels
