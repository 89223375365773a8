"""Gradients and variances at the start, and what a trained net loses with a layer."""

import functools
import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.depth_limit.nets import CONVOLUTIONS, Net, Params, drawing, forward
from experiments.depth_limit.training import Data, Runs, accuracies
from vgg_jax.probes.statistics import root_mean_square
from vgg_jax.rng import stream_key
from vgg_jax.training.steps import cross_entropy

BATCH = 64  # images behind a gradient


def gradients(net: Net, data: Data, seeds: int) -> list[dict[str, Any]]:
    """Returns a row per seed and place: the RMS of dL/dx at the ends of the blocks.

    Place 0 is what enters the first block, b what leaves block b.
    """
    return [
        {"seed": seed, "block": block, "value": float(value)}
        for seed, params, images, labels in _starts(net, data, seeds)
        for block, value in enumerate(_gradient_program(net)(params, images, labels))
    ]


def variances(net: Net, data: Data, seeds: int) -> list[dict[str, Any]]:
    """Returns a row per seed and block: the variances that its two batch norms divide by.

    Harmonic means over the channels, of the same nets and images as `gradients`.
    """
    return [
        {"seed": seed, "block": block, "first": float(first), "second": float(second)}
        for seed, params, images, _ in _starts(net, data, seeds)
        for block, (first, second) in enumerate(_variance_program(net)(params, images), start=1)
    ]


def _starts(net: Net, data: Data, seeds: int) -> Iterator[tuple[int, Params, jax.Array, jax.Array]]:
    """Yields a seed, its parameters, and images with their labels."""
    draws = drawing(net)(jnp.stack([stream_key(seed, "params") for seed in range(seeds)]))
    for seed in range(seeds):
        params = jax.tree.map(operator.itemgetter(seed), draws)
        chosen = np.random.default_rng(seed).permutation(len(data.labels))[:BATCH]
        yield seed, params, data.normalized(data.images[chosen]), data.labels[chosen]


@functools.lru_cache(maxsize=1)
def _variance_program(net: Net) -> Callable[..., jax.Array]:
    @jax.jit
    def measure(params: Params, images: jax.Array) -> jax.Array:
        moments = forward(net, params, images)[1]["blocks"]  # (blocks, 2, 2, channels)
        return 1 / jnp.mean(1 / moments[:, :, 1], axis=-1)

    return measure


@functools.lru_cache(maxsize=1)
def _gradient_program(net: Net) -> Callable[..., jax.Array]:
    @jax.jit
    def measure(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
        def loss(nudges: jax.Array) -> jax.Array:
            return cross_entropy(forward(net, params, images, nudges=nudges)[0], labels)

        zeros = jnp.zeros((net.blocks + 1, len(images), *net.map_shape))
        return jax.vmap(root_mean_square)(jax.grad(loss)(zeros))

    return measure


def lesions(net: Net, runs: Runs, data: Data) -> list[dict[str, Any]]:
    """Returns a row per run and lesion: the accuracy without one layer, or without one block.

    "layer" counts from 1 and is 0 where the whole block is gone. "block" counts from 1 too; it is 0
    where a residual net has lost all its blocks.
    """
    cuts = list(itertools.product(range(1, net.blocks + 1), range(CONVOLUTIONS + 1)))
    if net.residual:
        cuts.append((0, 0))
    rows = []
    for block, layer in cuts:
        kept = np.ones((net.blocks, CONVOLUTIONS), bool)
        blocks = slice(None) if block == 0 else block - 1
        kept[blocks, slice(None) if layer == 0 else layer - 1] = False
        found = accuracies(net, runs.params, data, jnp.asarray(kept))
        rows += [
            {
                "seed": seed,
                "block": block,
                "layer": layer,
                "intact": float(intact),
                "accuracy": float(accuracy),
            }
            for seed, intact, accuracy in zip(runs.seeds, runs.accuracies, found, strict=True)
        ]
    return rows
