"""2x2 pooling with stride 2: the library's on TPUs, elsewhere by strided parts.

On CPUs and GPUs `reduce_window` is slow and its gradient slower (docs/performance.md); the maximum
of the four parts of every window is a fused elementwise loop. On a GPU the backward pass keeps the
place of each maximum, a byte per window, instead of the map. Gradients are equal, ties included:
the first maximum in row order takes it all.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax, nn

from vgg_jax.ops.platforms import per_platform

_WINDOW = (1, 2, 2, 1)


def max_pool(images: jax.Array) -> jax.Array:
    """Maximum over 2x2 windows: float (N, H, W, C) to (N, H // 2, W // 2, C).

    An odd last row or column is dropped. The gradient of a tie goes to the first maximum in row
    order.
    """
    return per_platform(images, cpu=_strided_max, tpu=_library_max, default=placed_max)


def relu_max_pool(images: jax.Array) -> jax.Array:
    """ReLU, then `max_pool`: float (N, H, W, C) to (N, H // 2, W // 2, C).

    The two commute, gradients and ties too. A GPU pools first, so its backward pass keeps nothing
    as large as the map.
    """
    return per_platform(
        images,
        cpu=lambda x: _strided_max(nn.relu(x)),
        tpu=lambda x: _library_max(nn.relu(x)),
        default=lambda x: nn.relu(placed_max(x)),
    )


def avg_pool(images: jax.Array) -> jax.Array:
    """Mean over 2x2 windows: float (N, H, W, C) to (N, H // 2, W // 2, C).

    An odd last row or column is dropped.
    """
    return per_platform(images, tpu=_library_mean, default=_strided_mean)


def subsample(x: jax.Array) -> jax.Array:
    """Keeps the first of every two rows and columns: (N, H, W, C) to (N, H // 2, W // 2, C)."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return x[:, :height:2, :width:2]


def _library_max(images: jax.Array) -> jax.Array:
    return lax.reduce_window(images, -jnp.inf, lax.max, _WINDOW, _WINDOW, "VALID")


def _library_mean(images: jax.Array) -> jax.Array:
    return lax.reduce_window(images, 0.0, lax.add, _WINDOW, _WINDOW, "VALID") / 4


@jax.jit  # traced and differentiated once for each shape
def _strided_max(images: jax.Array) -> jax.Array:
    first, second, third, fourth = _window_parts(images)
    return _first_max(_first_max(first, second), _first_max(third, fourth))


@jax.custom_jvp
def placed_max(images: jax.Array) -> jax.Array:
    """`max_pool` whose derivatives need nothing but the place of each maximum."""
    return _max_and_place(images)[0]


@placed_max.defjvp
def _placed_max_jvp(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    maximum, place = _max_and_place(*primals)
    return maximum, _at_place(place, *tangents)


def _max_and_place(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maximum of every window and its place, 0 to 3 in row order: uint8."""
    first, second, third, fourth = _window_parts(images)
    upper, lower = _is_first(first, second), _is_first(third, fourth)
    top, bottom = jnp.where(upper, first, second), jnp.where(lower, third, fourth)
    above = _is_first(top, bottom)
    column = jnp.where(above, ~upper, ~lower)
    place = 2 * (~above).astype(jnp.uint8) + column.astype(jnp.uint8)
    return jnp.where(above, top, bottom), place


# Rematerialised: the transpose would keep what it makes of the places, four masks of their size.
@partial(jax.checkpoint, prevent_cse=False)
def _at_place(place: jax.Array, images: jax.Array) -> jax.Array:
    """Of every window, the element at the place: linear in the images.

    Its transpose is one pass over the map, which reads a window's gradient and place and writes
    its four elements. The transpose of four strided slices would be four padded maps.
    """
    n, height, width, channels = place.shape
    windows = images[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    places = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    return jnp.where(place[:, :, None, :, None] == places, windows, 0).sum((2, 4))


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
    """The larger, the first if equal, NaN if either is."""
    return jnp.where(_is_first(first, second), first, second)


def _is_first(first: jax.Array, second: jax.Array) -> jax.Array:
    """Whether `_first_max` is the first."""
    return (first >= second) | jnp.isnan(first)
