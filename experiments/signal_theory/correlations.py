"""Follows pairs of inputs through wide random nets: tanh with biases, ReLU without."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.signal_theory.presets import BIAS_VARIANCE
from vgg_jax.models.fields import ACTIVATIONS
from vgg_jax.probes.jacobian import log_squared_norm
from vgg_jax.probes.mean_field import TanhMeanField
from vgg_jax.rng import stream_key

PAIRS = 64
# Where the pairs of tanh nets start, as 1 - c: in the ordered phase at 0 and at
NEAR = 1e-3
# and in the chaotic phase at 1 - c* times 1 plus and minus
ASIDE = 0.3
LENGTHS = 2  # correlation lengths that are followed, so D falls to an eighth

Rows = list[dict[str, Any]]


def followed(theory: TanhMeanField) -> tuple[tuple[float, float], int]:
    """Returns 1 - c of both sets of pairs at the start, and how many layers they are followed."""
    starts = (NEAR, 0.0)
    if theory.distance:
        starts = theory.distance * (1 + ASIDE), theory.distance * (1 - ASIDE)
    return starts, max(3, math.ceil(LENGTHS * theory.correlation_length))


def tanh_pairs(variance: float, width: int, nets: int) -> Rows:
    """Returns D, the difference in 1 - c between two sets of pairs, after every layer.

    D starts small beside the curvature of the map. The sets start on both sides of the fixed point,
    or at it and below, so that D falls to zero at any width.
    """
    theory = TanhMeanField(variance, BIAS_VARIANCE)
    starts, layers = followed(theory)
    rows = []
    for seed in range(nets):
        key = stream_key(seed, f"tanh {variance:g}")
        distances, _ = _follow("tanh", layers, width)(
            key, jnp.array(starts), theory.square, variance, BIAS_VARIANCE
        )
        gaps = np.asarray(distances[:, 0] - distances[:, 1], float)
        rows += [
            {"variance": f"{variance:g}", "width": width, "seed": seed, "depth": depth}
            | {"quantity": "gap", "value": gap}
            for depth, gap in enumerate(gaps.tolist())
        ]
    return rows


def relu_pairs(variance: float, width: int, layers: int, nets: int) -> Rows:
    """Returns 1 - c of pairs that start uncorrelated, and ln |z|^2 per channel, of every layer."""
    rows = []
    for seed in range(nets):
        key = stream_key(seed, f"relu {variance:g}")
        measured = _follow("relu", layers, width)(key, jnp.ones(1), 1.0, variance, 0.0)
        for quantity, values in zip(("distance", "log_square"), measured, strict=True):
            rows += [
                {"variance": f"{variance:g}", "width": width, "seed": seed, "depth": depth}
                | {"quantity": quantity, "value": float(value)}
                for depth, value in enumerate(values[:, 0])
            ]
    return rows


@functools.cache
def _follow(activation: str, layers: int, width: int) -> Any:
    """Compiles a net of that many layers, which draws its weights as it runs.

    Returns:
      (key, starts (sets,), q, weight variance, bias variance) -> two (layers + 1, sets), means over
      the pairs of each set: 1 - c of the pre-activations, and ln of their mean square.
    """
    phi = ACTIVATIONS[activation]

    @jax.jit
    def run(
        key: jax.Array, starts: jax.Array, square: float, weight: float, bias: float
    ) -> tuple[jax.Array, jax.Array]:
        drawn = jax.random.normal(jax.random.fold_in(key, layers), (2, PAIRS, width))
        # Exactly orthogonal and of one length, so that every pair has the same correlation.
        first = _normalized(drawn[0])
        other = drawn[1] - jnp.sum(drawn[1] * first, -1, keepdims=True) * first
        other = _normalized(other)
        c = (1 - starts)[:, None, None]
        second = c * first + jnp.sqrt(1 - c**2) * other
        z = jnp.concatenate([first[None], second]) * jnp.sqrt(square * width)

        def layer(z: jax.Array, index: jax.Array) -> tuple[jax.Array, Any]:
            kernel_key, bias_key = jax.random.split(jax.random.fold_in(key, index))
            kernel = jax.random.normal(kernel_key, (width, width)) * jnp.sqrt(weight / width)
            offset = jax.random.normal(bias_key, (width,)) * jnp.sqrt(bias)
            return phi(z) @ kernel + offset, described(z)

        last, found = jax.lax.scan(layer, z, jnp.arange(layers))
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), found, described(last))

    def described(z: jax.Array) -> tuple[jax.Array, jax.Array]:
        unit = _normalized(z)
        # The same as 1 - cosine, and exact where that is small.
        distances = jnp.sum(jnp.square(unit[1:] - unit[0]), -1) / 2
        squares = jax.vmap(jax.vmap(log_squared_norm))(z[1:]) - jnp.log(width)
        return distances.mean(-1), squares.mean(-1)

    return run


def _normalized(x: jax.Array) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
