"""Statistics of arrays: scale, and how much of a layer still passes a gradient."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# A unit whose slope is below this share of the activation's steepest passes next to nothing.
SATURATED = 0.05


def root_mean_square(x: jax.Array) -> jax.Array:
    """Returns sqrt(mean(x^2)) over all elements: float32 scalar, of numbers of any size.

    Gradients of deep networks are so small, or large, that their squares leave float32.
    """
    wide = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide))
    scale = jnp.where(largest > 0, largest, 1)  # a NaN or an infinity goes through
    return scale * jnp.sqrt(jnp.mean(jnp.square(wide / scale)))


def l2_norm(x: jax.Array) -> jax.Array:
    """Returns the L2 norm of all elements: float32 scalar, of numbers of any size."""
    return root_mean_square(x) * x.size**0.5


def named_leaves(tree: Any) -> dict[str, jax.Array]:
    """Returns the arrays of floats in a tree by the names on their way: "block/dense/kernel".

    Boxes with one value, such as NNX's variables, add nothing to a name.
    """

    def name(path: tuple[Any, ...]) -> str:
        boxed = bool(path) and path[-1] == jax.tree_util.GetAttrKey("value")
        return jax.tree_util.keystr(path[:-1] if boxed else path, simple=True, separator="/")

    return {
        name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
    }


def preactivation_statistics(
    z: jax.Array, activation: Callable[[jax.Array], jax.Array] | None
) -> dict[str, jax.Array]:
    """Describes a layer's pre-activations (N, H, W, C) by float32 scalars.

    Returns:
      preactivation_rms, preactivation_mean, preactivation_variance: over all elements.
      saturation_fraction: elements where the activation's slope is below 5% of its steepest. Of
        ReLU, those that are off.
      dead_fraction: channels that are so for every example and position: no example teaches them.
      The last two only if there is an `activation`.
    """
    wide = z.astype(jnp.float32)
    mean = jnp.mean(wide)
    statistics = {
        "preactivation_rms": root_mean_square(wide),
        "preactivation_mean": mean,
        "preactivation_variance": jnp.square(root_mean_square(wide - mean)),
    }
    if activation is not None:
        saturated = slopes(activation, wide) < SATURATED * slopes(activation, jnp.float32(1e-3))
        statistics["saturation_fraction"] = jnp.mean(saturated, dtype=jnp.float32)
        dead = jnp.all(saturated, axis=tuple(range(z.ndim - 1)))
        statistics["dead_fraction"] = jnp.mean(dead, dtype=jnp.float32)
    return statistics


def slopes(activation: Callable[[jax.Array], jax.Array], z: jax.Array) -> jax.Array:
    """Returns the derivative of an elementwise function: an array like z.

    ReLU, tanh and sigmoid are steepest just above zero.
    """
    return jax.jvp(activation, (z,), (jnp.ones_like(z),))[1]
