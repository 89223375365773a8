"""How alike the gradients at two inputs are, in the nets of `depth_limit` at their start."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.depth_limit.nets import Net, Params, drawing, forward
from vgg_jax.probes.coherence import equicorrelated, input_gradients, pair_correlation
from vgg_jax.rng import stream_key

CORRELATION = 0.5  # of two inputs
INPUTS, REFERENCE = 16, 128  # inputs of the pairs, and of batch norm's statistics


def coherence(net: Net, seeds: int) -> list[dict[str, Any]]:
    """Returns a row per seed: the correlation of the gradients of all logits, over all pairs.

    The inputs are Gaussian noise; batch norm uses the statistics of independent inputs.
    """
    draws = drawing(net)(jnp.stack([stream_key(seed, "params") for seed in range(seeds)]))
    return [
        {
            "seed": seed,
            "value": float(_program(net)(jax.tree.map(operator.itemgetter(seed), draws), seed)),
        }
        for seed in range(seeds)
    ]


@functools.lru_cache(maxsize=1)
def _program(net: Net) -> Callable[[Params, int], jax.Array]:
    shape = (net.side, net.side, net.colours)

    @jax.jit
    def measure(params: Params, seed: jax.Array) -> jax.Array:
        noise, pairs = jax.random.split(jax.random.key(seed))
        reference = jax.random.normal(noise, (REFERENCE, *shape))
        _, statistics = forward(net, params, reference)

        def logits(images: jax.Array) -> jax.Array:
            return forward(net, params, images, statistics=statistics)[0]

        inputs = equicorrelated(pairs, INPUTS, shape, CORRELATION)
        return pair_correlation(input_gradients(logits, inputs))

    return measure
