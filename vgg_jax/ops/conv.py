"""Same-padded 2-D convolution: the library's on accelerators, the fastest measured form on a CPU.

XLA's CPU convolution reaches the speed of a matrix product for most VGG layers, but its gradient
with respect to the kernel runs at a tenth of it, and 2x2 maps at a hundredth. Convolution is linear
in the images and in the kernel, so each of the two linear maps may be written in its own way: the
forward map of `_along_images` is chosen for its transpose, the gradient with respect to the images,
and that of `_along_kernel` for the gradient with respect to the kernel. Both are plain JAX code and
differentiate to any order, forwards and backwards.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

_PATCH_BYTES = 4 * 2**20

_Formulation = Callable[[jax.Array, jax.Array], jax.Array]


@jax.custom_jvp
def conv2d(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and zero padding that keeps the map size.

    Args:
        images: float (N, H, W, C_in).
        kernel: float (K, K, C_in, C_out), K odd, of the dtype of `images`.

    Returns:
        Array (N, H, W, C_out) in the dtype of `images`.
    """
    return _per_backend(_forward, images, kernel)


@partial(conv2d.defjvp, symbolic_zeros=True)
def _conv2d_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    images, kernel = primals
    images_dot, kernel_dot = tangents
    # Rematerialised: what is kept for the backward pass is the images and the kernel alone.
    terms = []
    if not isinstance(images_dot, SymbolicZero):
        terms.append(jax.checkpoint(partial(_per_backend, _along_images))(images_dot, kernel))
    if not isinstance(kernel_dot, SymbolicZero):
        terms.append(jax.checkpoint(partial(_per_backend, _along_kernel))(images, kernel_dot))
    return conv2d(images, kernel), sum(terms[1:], terms[0])


def _per_backend(choose: Callable, images: jax.Array, kernel: jax.Array) -> jax.Array:
    cpu = choose(images.shape, kernel.shape)
    return lax.platform_dependent(images, kernel, cpu=_in_float32(cpu), default=_library)


def _in_float32(formulation: _Formulation) -> _Formulation:
    """A CPU has no fast half precision: half types are computed in float32 and rounded once."""

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        dtype = jnp.promote_types(images.dtype, jnp.float32)
        return formulation(images.astype(dtype), kernel.astype(dtype)).astype(images.dtype)

    return convolve


def _forward(images: tuple[int, ...], kernel: tuple[int, ...]) -> _Formulation:
    return _dense if max(images[1:3]) <= 2 else _library


def _along_images(images: tuple[int, ...], kernel: tuple[int, ...]) -> _Formulation:
    return _dense if max(images[1:3]) <= 2 else _library


def _along_kernel(images: tuple[int, ...], kernel: tuple[int, ...]) -> _Formulation:
    return _dense if max(images[1:3]) <= 2 else _patches


def _library(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _dense(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """One matrix product over the whole map: for maps hardly larger than the kernel's reach."""
    n, height, width, channels = images.shape
    rows, columns = (_taps(kernel.shape[0], size) for size in (height, width))
    # (input row, input column, output row, output column, C_in, C_out)
    blocks = jnp.einsum("hyk,wxl,klio->hwiyxo", rows, columns, kernel)
    matrix = blocks.reshape(height * width * channels, -1)
    return (images.reshape(n, -1) @ matrix).reshape(n, height, width, -1)


def _taps(kernel_size: int, size: int) -> jax.Array:
    """0/1 array (size, size, kernel_size): the tap by which an input position reaches an output."""
    source, target = jnp.mgrid[:size, :size]
    return jax.nn.one_hot(source - target + kernel_size // 2, kernel_size)


def _patches(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Matrix products with the patches under the kernel, for a part of the images at a time.

    The patches are K * K times the images, so they are made of as many rows as stay in the cache.
    """
    n, height, width, channels = images.shape
    size, _, _, features = kernel.shape
    row_bytes = width * size * size * channels * images.dtype.itemsize
    rows = _largest_divisor(height, _PATCH_BYTES // row_bytes)
    count = _largest_divisor(n, _PATCH_BYTES // (row_bytes * height)) if rows == height else 1
    margin = size // 2
    padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    # Output channels first: then the transpose of every product is written without a copy.
    matrix = kernel.reshape(-1, features).T

    # Without it the transpose would keep the patches of every part.
    @partial(jax.checkpoint, prevent_cse=False)
    def convolve(start: tuple[jax.Array, jax.Array]) -> jax.Array:
        block = (count, rows + 2 * margin, width + 2 * margin, channels)
        part = lax.dynamic_slice(padded, (*start, 0, 0), block)
        shifts = [
            part[:, row : row + rows, column : column + width]
            for row in range(size)
            for column in range(size)
        ]
        return lax.dot_general(jnp.concatenate(shifts, axis=-1), matrix, (((3,), (1,)), ((), ())))

    starts = jnp.meshgrid(jnp.arange(0, n, count), jnp.arange(0, height, rows), indexing="ij")
    parts = lax.map(convolve, tuple(axis.ravel() for axis in starts))
    return parts.reshape(n, height, width, features)


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(max(1, min(number, limit)), 0, -1) if number % d == 0)
