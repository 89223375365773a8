"""2x2 pooling with stride 2: the library's on TPUs, elsewhere by strided parts.

On CPUs and GPUs `reduce_window` is slow and its gradient slower (docs/performance.md); the maximum
of the four parts of every window is a fused elementwise loop. Gradients are equal, ties included:
the first maximum in row order takes it all.
"""

import jax
import jax.numpy as jnp
from jax import lax

_WINDOW = (1, 2, 2, 1)


def max_pool(images: jax.Array) -> jax.Array:
    """Maximum over 2x2 windows: float (N, H, W, C) to (N, H // 2, W // 2, C).

    An odd last row or column is dropped. The gradient of a tie goes to the first maximum in row
    order.
    """
    return lax.platform_dependent(images, tpu=_library_max, default=_strided_max)


def avg_pool(images: jax.Array) -> jax.Array:
    """Mean over 2x2 windows: float (N, H, W, C) to (N, H // 2, W // 2, C).

    An odd last row or column is dropped.
    """
    return lax.platform_dependent(images, tpu=_library_mean, default=_strided_mean)


def subsample(x: jax.Array) -> jax.Array:
    """Keeps the first of every two rows and columns: (N, H, W, C) to (N, H // 2, W // 2, C)."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return x[:, :height:2, :width:2]


def _library_max(images: jax.Array) -> jax.Array:
    return lax.reduce_window(images, -jnp.inf, lax.max, _WINDOW, _WINDOW, "VALID")


def _library_mean(images: jax.Array) -> jax.Array:
    return lax.reduce_window(images, 0.0, lax.add, _WINDOW, _WINDOW, "VALID") / 4


def _strided_max(images: jax.Array) -> jax.Array:
    first, second, third, fourth = _window_parts(images)
    return _first_max(_first_max(first, second), _first_max(third, fourth))


def _strided_mean(images: jax.Array) -> jax.Array:
    first, second, third, fourth = _window_parts(images)
    return (first + second + third + fourth) / 4


def _window_parts(images: jax.Array) -> list[jax.Array]:
    """The four positions of every window, in row order, each (N, H // 2, W // 2, C)."""
    _, height, width, _ = images.shape
    return [
        images[:, row : height // 2 * 2 : 2, column : width // 2 * 2 : 2]
        for row in range(2)
        for column in range(2)
    ]


def _first_max(first: jax.Array, second: jax.Array) -> jax.Array:
    """The larger, the first where equal, NaN where either is."""
    return jnp.where((first >= second) | jnp.isnan(first), first, second)
