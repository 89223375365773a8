"""2x2 pooling with stride 2."""

import jax
import jax.numpy as jnp
from jax import lax

_WINDOW = (1, 2, 2, 1)


def max_pool(images: jax.Array) -> jax.Array:
    """Maximum over 2x2 windows: float (N, H, W, C) to (N, H // 2, W // 2, C)."""
    return lax.reduce_window(images, -jnp.inf, lax.max, _WINDOW, _WINDOW, "VALID")


def avg_pool(images: jax.Array) -> jax.Array:
    """Mean over 2x2 windows: float (N, H, W, C) to (N, H // 2, W // 2, C)."""
    return lax.reduce_window(images, 0.0, lax.add, _WINDOW, _WINDOW, "VALID") / 4
