"""Same-padded 2-D convolution: the library's on accelerators, the fastest measured form on a CPU.

XLA's CPU convolution runs at the speed of a matrix product for most VGG layers, but its gradient
with respect to the kernel at a tenth of it, and 2x2 maps at a hundredth. Convolution is linear in
the images and in the kernel, so each of the two linear maps may be written in its own way: the one
along the images is chosen for its transpose, the gradient with respect to the images, and the one
along the kernel for the gradient with respect to the kernel. All are plain JAX code, which
differentiates to any order, forwards and backwards.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

Shape = tuple[int, ...]
Formulation = Callable[[jax.Array, jax.Array], jax.Array]

_PART_BYTES = 2 * 2**20  # what the second- and third-level caches hold
_WIDE_MAP = 256  # columns at which the library is at full speed with 64 channels


@jax.custom_jvp
def conv2d(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and zero padding that keeps the map size.

    On a CPU, half precision is computed in float32 and rounded once.

    Args:
        images: float (N, H, W, C_in).
        kernel: float (K, K, C_in, C_out), K odd, of the dtype of `images`.

    Returns:
        Array (N, H, W, C_out) in the dtype of `images`.
    """
    return _per_backend(along_images, images, kernel)


@partial(conv2d.defjvp, symbolic_zeros=True)
def _conv2d_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    images, kernel = primals
    images_dot, kernel_dot = tangents
    terms = []
    if not isinstance(images_dot, SymbolicZero):
        terms.append(_per_backend(along_images, images_dot, kernel))
    if not isinstance(kernel_dot, SymbolicZero):
        terms.append(_per_backend(along_kernel, images, kernel_dot))
    return conv2d(images, kernel), sum(terms[1:], terms[0])


def _per_backend(
    choose: Callable[[Shape, Shape], Formulation], images: jax.Array, kernel: jax.Array
) -> jax.Array:
    # Rematerialised: the backward pass keeps the images and the kernel, nothing made from them.
    @jax.checkpoint
    def on_cpu(images: jax.Array, kernel: jax.Array) -> jax.Array:
        dtype = jnp.promote_types(images.dtype, jnp.float32)
        convolve = choose(images.shape, kernel.shape)
        return convolve(images.astype(dtype), kernel.astype(dtype)).astype(images.dtype)

    return lax.platform_dependent(images, kernel, cpu=on_cpu, default=library)


# The choice on a CPU, and in comments why: GFLOP/s (those of the whole kernel at every position) of
# the choice against the library's, in float32 on two AVX-512 cores where a matrix product reaches
# 200. `python -m experiments.conv_formulations.run` measures every formulation at every layer.


def along_images(images: Shape, kernel: Shape) -> Formulation:
    """Chooses for the forward pass and for the gradient with respect to the images."""
    n, height, width, _ = images
    size, _, *channels = kernel
    # 512 channels: 354 for 2 at 2x2 maps, 276 for 185 at 4x4, where most taps reach the padding.
    if size == 1 or max(height, width) <= 4:
        return taps
    # 64 channels: 127 for 70 at 32x32 maps, 177 for 106 at 16x16.
    if n > 1 and width <= 64 and 32 < min(channels) <= 64:
        return side_by_side
    return library


def along_kernel(images: Shape, kernel: Shape) -> Formulation:
    """Chooses for the gradient with respect to the kernel."""
    _, height, width, channels = images
    # 512 channels: 270 for 159 at 2x2 maps.
    if kernel[0] == 1 or max(height, width) <= 2:
        return taps
    # 3 channels: 21 for 14 at 32x32 maps, 21 for 10 at 224x224.
    if channels < 16:
        return library
    # 98 for 31 with 64 channels at 224x224 maps, 139 for 25 with 128 at 112x112.
    return patches


def library(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def side_by_side(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """The library's, on several images in a row with zero columns between: it likes wide maps."""
    n, height, width, _ = images.shape
    gap = kernel.shape[0] // 2
    count = _largest_divisor(n, -(-_WIDE_MAP // width))
    spaced = jnp.pad(images, ((0, 0), (0, 0), (0, gap), (0, 0)))
    strips = spaced.reshape(n // count, count, height, width + gap, -1).swapaxes(1, 2)
    outputs = library(strips.reshape(n // count, height, count * (width + gap), -1), kernel)
    outputs = outputs.reshape(n // count, height, count, width + gap, -1)[:, :, :, :width]
    return outputs.swapaxes(1, 2).reshape(n, height, width, -1)


def taps(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """A matrix product for each tap of the kernel, with the positions alone that it joins."""
    _, height, width, _ = images.shape
    size = kernel.shape[0]

    def product(row: int, column: int) -> jax.Array:
        inputs, outputs = zip(_overlap(height, row), _overlap(width, column), strict=True)
        (top, bottom), (left, right) = outputs
        part = images[:, slice(*inputs[0]), slice(*inputs[1])]
        tap = kernel[row + size // 2, column + size // 2]
        margins = ((0, 0), (top, height - bottom), (left, width - right), (0, 0))
        return jnp.pad(part @ tap, margins)

    rows, columns = (
        range(-min(size // 2, extent - 1), min(size // 2, extent - 1) + 1)
        for extent in (height, width)
    )
    products = [product(row, column) for row in rows for column in columns]
    return sum(products[1:], products[0])


def _overlap(extent: int, offset: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The ranges of inputs and of outputs that a tap at `offset` from the centre joins."""
    outputs = max(0, -offset), extent - max(0, offset)
    return (outputs[0] + offset, outputs[1] + offset), outputs


def patches(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """A matrix product for each row of the kernel, for a part of the images at a time.

    The left factor holds, for every position, the K columns around it: K times the images, so a
    part is as many rows as stay in the cache. (Patches of K * K, in one product, take longer to
    write than the longer product saves.)
    """
    n, height, width, channels = images.shape
    size, _, _, features = kernel.shape
    row_bytes = width * size * channels * images.dtype.itemsize
    rows = _largest_divisor(height, _PART_BYTES // row_bytes)
    count = _largest_divisor(n, _PART_BYTES // (row_bytes * height)) if rows == height else 1
    margin = size // 2
    padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    # Output channels first: so the transpose of a product is a product without a transposition.
    matrix = kernel.reshape(-1, features).T
    kernel_rows = lax.split(matrix, (size * channels,) * size, axis=1)

    # Rematerialised: the transpose would keep the columns of every part.
    @partial(jax.checkpoint, prevent_cse=False)
    def convolve(start: tuple[jax.Array, jax.Array]) -> jax.Array:
        block = (count, rows + 2 * margin, width + 2 * margin, channels)
        part = lax.dynamic_slice(padded, (*start, 0, 0), block)
        shifts = [part[:, :, column : column + width] for column in range(size)]
        columns = jnp.concatenate(shifts, axis=-1)
        products = [
            lax.dot_general(columns[:, row : row + rows], factor, (((3,), (1,)), ((), ())))
            for row, factor in enumerate(kernel_rows)
        ]
        return sum(products[1:], products[0])

    starts = jnp.meshgrid(jnp.arange(0, n, count), jnp.arange(0, height, rows), indexing="ij")
    parts = lax.map(convolve, tuple(axis.ravel() for axis in starts))
    return parts.reshape(n, height, width, features)


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(max(1, min(number, limit)), 0, -1) if number % d == 0)
