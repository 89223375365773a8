"""Winograd's algorithm for 3x3 convolutions: F(4x4, 3x3) of Lavin & Gray (2016), arXiv 1509.09308.

Outputs are computed in tiles of 4x4. The 6x6 inputs of a tile, which overlap with its neighbours',
and the 3x3 kernel are transformed. At each of the 36 positions the transformed inputs and kernel
are multiplied as matrices, (tiles, C_in) with (C_in, C_out), and the products are transformed back:
36 multiplications where the sum over the kernel has 144.

The gradient with respect to the images is such a convolution too, with the kernel rotated by 180
degrees. The gradient with respect to the kernel multiplies the transformed inputs of a tile with
the gradient of its outputs, which goes through the transpose of the output transform. Both are
written out here, and so are theirs: the gradients that JAX derives have to add up overlapping
tiles, and are slower.

Everything is computed for a few rows of tiles at a time, so that tiles stay in the caches.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vgg_jax.ops.bilinear import Operation, bilinear

# Interpolated at 0, 1, -1, 2, -2 and infinity.
_INPUT_TRANSFORM = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL_TRANSFORM = (
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
)
# Along both axes at once, columns first as the tiles have them: (36, 9).
_KERNEL_TRANSFORM_2D = np.einsum("jc,ir->jirc", _KERNEL_TRANSFORM, _KERNEL_TRANSFORM).reshape(36, 9)
_OUTPUT_TRANSFORM = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
)
_PART_TILES = 512  # 4.7 MB once transformed with 64 channels: larger parts leave the caches

Rows = tuple[jax.Array, jax.Array, jax.Array]


def winograd(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and zero padding that keeps the map size.

    Args:
      images: float (N, H, W, C_in).
      kernel: float (3, 3, C_in, C_out), of the dtype of `images`.

    Returns:
      Array (N, H, W, C_out) in the dtype of `images`.
    """
    return _convolve(images, kernel)


def _winograd(images: jax.Array, kernel: jax.Array) -> jax.Array:
    n, height, width, _ = images.shape
    features = kernel.shape[-1]
    down, across = _tile_counts(images.shape)
    count = _rows_of_a_part(images.shape)
    # Output channels first, as the tiles have their channels last.
    taps = kernel.swapaxes(2, 3).reshape(9, -1)
    factors = (jnp.asarray(_KERNEL_TRANSFORM_2D, kernel.dtype) @ taps).reshape(36, features, -1)

    def convolve(part: Rows) -> jax.Array:
        tiles = _transform_inputs(part, count, across)
        products = lax.dot_general(tiles, factors, (((2,), (2,)), ((0,), (0,))))
        outputs = _mix(_OUTPUT_TRANSFORM, products.reshape(6, 6, -1, features))
        outputs = _mix(_OUTPUT_TRANSFORM, outputs.swapaxes(0, 1))
        outputs = outputs.reshape(4, 4, count, across, features).transpose(2, 0, 3, 1, 4)
        return outputs.reshape(-1, features)

    outputs = lax.map(convolve, _parts_with_neighbours(images, count))
    return outputs.reshape(n, 4 * down, 4 * across, features)[:, :height, :width]


def _winograd_of_kernel(images: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient (3, 3, C_in, C_out) of a convolution's kernel, of that of its outputs."""
    channels, features = images.shape[-1], gradient.shape[-1]
    _, across = _tile_counts(images.shape)
    count = _rows_of_a_part(images.shape)

    def add(total: jax.Array, parts: tuple[Rows, jax.Array]) -> tuple[jax.Array, None]:
        rows = parts[1].reshape(count, 4, 4 * across, features)
        outputs = _mix(_OUTPUT_TRANSFORM.T, [rows[:, row] for row in range(4)])
        outputs = outputs.reshape(6, count, across, 4, features)
        outputs = _mix(_OUTPUT_TRANSFORM.T, [outputs[:, :, :, column] for column in range(4)])
        outputs = outputs.reshape(36, -1, features)
        tiles = _transform_inputs(parts[0], count, across)
        return total + lax.dot_general(outputs, tiles, (((1,), (1,)), ((0,), (0,)))), None

    of_outputs = _tile_rows(gradient).reshape(-1, count * 16 * across, features)
    parts = _parts_with_neighbours(images, count), of_outputs
    total, _ = lax.scan(add, jnp.zeros((36, features, channels), images.dtype), parts)
    taps = jnp.asarray(_KERNEL_TRANSFORM_2D.T, images.dtype) @ total.reshape(36, -1)
    return taps.reshape(3, 3, features, channels).swapaxes(2, 3)


def _tile_counts(images: tuple[int, ...]) -> tuple[int, int]:
    """Tiles down and across a map of images of this shape."""
    return -(-images[1] // 4), -(-images[2] // 4)


def _rows_of_a_part(images: tuple[int, ...]) -> int:
    """How many rows of tiles are computed at a time: a divisor of those of all images."""
    down, across = _tile_counts(images)
    total = images[0] * down
    most = max(1, min(total, _PART_TILES // across))
    return next(count for count in range(most, 0, -1) if total % count == 0)


def _tile_rows(images: jax.Array) -> jax.Array:
    """Rows of tiles: (N, down, 4, 4 * across, C), with zeros where a tile reaches out of a map."""
    n, height, width, channels = images.shape
    down, across = _tile_counts(images.shape)
    margins = ((0, 0), (0, 4 * down - height), (0, 4 * across - width), (0, 0))
    return jnp.pad(images, margins).reshape(n, down, 4, 4 * across, channels)


def _parts_with_neighbours(images: jax.Array, count: int) -> Rows:
    """The lines of `count` rows of tiles, and the line above and the line below each row.

    Each is (parts, positions, C). No axis has length 1 beside the first, over which a loop goes:
    XLA would copy the whole array to move it.
    """
    rows = _tile_rows(images)
    above, below = _neighbours(rows[:, :, 3], rows[:, :, 0], axis=1)
    parts = rows.shape[0] * rows.shape[1] // count
    above, rows, below = (x.reshape(parts, -1, x.shape[-1]) for x in (above, rows, below))
    return above, rows, below


def _transform_inputs(part: Rows, count: int, across: int) -> jax.Array:
    """The transformed 6x6 inputs of the tiles of a part: (36, tiles, C), columns first."""
    channels = part[0].shape[-1]
    above, rows, below = (x.reshape(count, -1, 4 * across, channels) for x in part)
    tiles = _mix(_INPUT_TRANSFORM, [above[:, 0], *(rows[:, i] for i in range(4)), below[:, 0]])
    tiles = tiles.reshape(6, count, across, 4, channels)
    columns = [tiles[:, :, :, column] for column in range(4)]
    left, right = _neighbours(columns[3], columns[0], axis=2)
    return _mix(_INPUT_TRANSFORM, [left, *columns, right]).reshape(36, -1, channels)


def _neighbours(last: jax.Array, first: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """Of tiles along an axis: the last line of the one before, the first of the next, or zeros."""
    tiles = last.shape[axis]
    before, after = [(0, 0)] * last.ndim, [(0, 0)] * last.ndim
    before[axis], after[axis] = (1, 0), (0, 1)
    return (
        jnp.pad(lax.slice_in_dim(last, 0, tiles - 1, axis=axis), before),
        jnp.pad(lax.slice_in_dim(first, 1, tiles, axis=axis), after),
    )


def _mix(matrix: np.ndarray, arrays: Sequence[jax.Array] | jax.Array) -> jax.Array:
    """Multiplies a small matrix with a leading axis, (k, ...) to (j, ...).

    Written as sums, which XLA computes in one pass.
    """

    def combine(weights: np.ndarray) -> jax.Array:
        pairs = zip(weights.tolist(), arrays, strict=True)
        terms = [weight * array if weight != 1 else array for weight, array in pairs if weight]
        return sum(terms[1:], terms[0])

    return jnp.stack([combine(weights) for weights in matrix])


def _rotated(kernel: jax.Array) -> jax.Array:
    return lax.rev(kernel, (0, 1)).swapaxes(2, 3)


_convolve: Operation = bilinear(
    _winograd,
    lambda images, kernel: (*images[:3], kernel[3]),
    (
        lambda gradient, _, kernel: _convolve(gradient, _rotated(kernel)),
        lambda gradient, images, _: _convolve_of_kernel(images, gradient),
    ),
)
_convolve_of_kernel: Operation = bilinear(
    _winograd_of_kernel,
    lambda images, gradient: (3, 3, images[3], gradient[3]),
    (
        lambda kernel, _, gradient: _convolve(gradient, _rotated(kernel)),
        lambda kernel, images, _: _convolve(images, kernel),
    ),
)
