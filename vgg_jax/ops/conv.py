"""Same-padded 2-D convolution: the library's on accelerators, the fastest measured form on a CPU.

On a GPU the first layer is the exception: cuDNN pads its three channels, and a matrix product is
faster in a training step (`row_groups`).

XLA's CPU convolution runs at the speed of a matrix product for most VGG layers, but its gradient
with respect to the kernel at a tenth to a half of it, and 2x2 maps at a hundredth; Winograd's
algorithm (`ops/winograd.py`) passes it if the layers are wide. Convolution is linear in the images
and in the kernel, so each of the two linear maps may be written in its own way: the one along the
images is chosen for its transpose too, the gradient with respect to the images, and the one along
the kernel for the gradient with respect to the kernel. All differentiate to any order, forwards and
backwards.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from vgg_jax.ops.canonical import convolve
from vgg_jax.ops.platforms import per_platform
from vgg_jax.ops.winograd import winograd

Shape = tuple[int, ...]
Formulation = Callable[[jax.Array, jax.Array], jax.Array]
Choice = Callable[[Shape, Shape], Formulation]

_GROUP = 4  # outputs of a row that `row_groups` computes at once
_PATCH_ELEMENTS = 2**20  # positions times nine times channels: 4 MB


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


def _per_backend(choose: Choice, images: jax.Array, kernel: jax.Array) -> jax.Array:
    on_cpu = partial(_on_cpu, choose)
    if not _suits_row_groups(images.shape, kernel.shape):
        return per_platform(images, kernel, cpu=on_cpu, default=_on_accelerators)
    on_gpu = jax.checkpoint(row_groups)
    return per_platform(images, kernel, cpu=on_cpu, tpu=_on_accelerators, default=on_gpu)


# Jitted: JAX traces, differentiates and lowers it once for each shape, however many layers have it.
# Rematerialised: the backward pass keeps the images and the kernel, nothing made from them.
@partial(jax.jit, static_argnums=0)
@partial(jax.checkpoint, static_argnums=0)
def _on_cpu(choose: Choice, images: jax.Array, kernel: jax.Array) -> jax.Array:
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    convolve = choose(images.shape, kernel.shape)
    return convolve(images.astype(dtype), kernel.astype(dtype)).astype(images.dtype)


def _on_accelerators(images: jax.Array, kernel: jax.Array) -> jax.Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=axes)


# The choice on a CPU, and in comments why: GFLOP/s (those of the whole kernel at every position) of
# the choice against the library's, in float32 on two AVX-512 cores, as stored in
# experiments/conv_formulations; if the fastest alone loses in a whole step, the step decides.


def along_images(images: Shape, kernel: Shape) -> Formulation:
    """Chooses for the forward pass and for the gradient with respect to the images."""
    width = images[2]
    small = _of_small_maps(images, kernel)
    if small:
        return small
    # 64 channels: 190 for 98 at 32x32 maps. 128: 282 for 276 at 16x16, 252 for 242 at 112x112. 256:
    # 362 for 264 at 8x8, 428 for 277 at 56x56. 512: 453 for 265 at 28x28, 340 for 254 at 4x4. With
    # 64 channels at 224x224 the library's long rows suit it: 187 for 211.
    if _suits_winograd(images, kernel) and (width <= 64 or min(kernel[2:]) > 64):
        return winograd
    return library


def along_kernel(images: Shape, kernel: Shape) -> Formulation:
    """Chooses for the gradient with respect to the kernel."""
    small = _of_small_maps(images, kernel)
    if small:
        return small
    # 64 channels: 168 for 33 at 32x32 maps, 196 for 31 at 224x224. 128: 299 for 51 at 112x112. 256:
    # 336 for 113 at 8x8, 416 for 60 at 56x56. 512: 375 for 235 at 4x4. Patches: 26 for 19 with 3
    # channels at 32x32.
    if _suits_winograd(images, kernel):
        return winograd
    return patches if kernel[0] == 3 else library


def _of_small_maps(images: Shape, kernel: Shape) -> Formulation | None:
    # The library reaches 2 at 2x2 maps, and Winograd's tiles are mostly padding there: 83, where
    # positions reach 432 and taps 465. A sum over taps is computed anew by all that use it, a row
    # of positions is not; but positions read the kernel several times, which a small batch does not
    # pay.
    largest = max(images[1:3])
    if kernel[0] > 1 and largest <= 2 and images[0] >= 64:
        return positions
    if kernel[0] == 1 or (largest <= 4 and not _suits_winograd(images, kernel)):
        return taps
    return None


def _suits_winograd(images: Shape, kernel: Shape) -> bool:
    n, height, width, _ = images
    size, _, *channels = kernel
    down, across = -(-height // 4), -(-width // 4)
    return (
        size == 3
        # 32 channels: the transforms cost as much as the products save.
        and min(channels) >= 64
        # 14x14 maps, of which 16x16 positions are computed, still pay in a step, at 248 for 260
        # alone; less of a tile does not.
        and 16 * down * across <= 1.31 * height * width
        # Few tiles: transforming the kernel costs more than the products.
        and n * down * across >= max(channels) // 4
    )


def library(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """XLA's own convolution."""
    half = kernel.shape[0] // 2
    return convolve(images, kernel, ((half, half), (half, half)))


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


def positions(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """A matrix product for each position of a small map, with the inputs in the kernel's reach."""
    n, height, width, _ = images.shape
    features = kernel.shape[-1]
    half = kernel.shape[0] // 2

    def at(row: int, column: int) -> jax.Array:
        (rows, kernel_rows), (columns, kernel_columns) = (
            _reach(extent, place, half) for extent, place in ((height, row), (width, column))
        )
        inputs = images[:, rows, columns].reshape(n, -1)
        return inputs @ kernel[kernel_rows, kernel_columns].reshape(-1, features)

    outputs = [at(row, column) for row in range(height) for column in range(width)]
    return jnp.stack(outputs, axis=1).reshape(n, height, width, features)


def _reach(extent: int, place: int, half: int) -> tuple[slice, slice]:
    """The inputs that a kernel around `place` reaches, and the part of the kernel that does."""
    first, last = max(0, place - half), min(extent, place + half + 1)
    return slice(first, last), slice(first - place + half, last - place + half)


def patches(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """A matrix product with the 3x3 surroundings of every position, written out.

    For a part at a time, so that its surroundings stay in the cache: several images, or a strip of
    rows of one.
    """
    n, height, width, channels = images.shape
    features = kernel.shape[-1]
    part_rows = max(_PATCH_ELEMENTS // (9 * channels * width), 1)
    count = _largest_divisor(n, part_rows // height)
    rows = _largest_divisor(height, part_rows)
    strips = images.reshape(n, height // rows, rows, width, channels)
    # The row above each strip and the row below it, zero where the image ends.
    above = jnp.pad(strips[:, :-1, -1], ((0, 0), (1, 0), (0, 0), (0, 0)))
    below = jnp.pad(strips[:, 1:, 0], ((0, 0), (0, 1), (0, 0), (0, 0)))
    # Output channels first, as for `winograd`.
    matrix = kernel.transpose(3, 0, 1, 2).reshape(features, -1)

    # Rematerialised: the transpose would keep the surroundings of every part.
    @partial(jax.checkpoint, prevent_cse=False)
    def convolve(part: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        strip, above, below = (x.reshape(count, -1, width, channels) for x in part)
        rows_around = jnp.concatenate([above, strip, below], axis=1)
        padded = jnp.pad(rows_around, ((0, 0), (0, 0), (1, 1), (0, 0)))
        shifted = [padded[:, i : i + rows, j : j + width] for i in range(3) for j in range(3)]
        surroundings = jnp.concatenate(shifted, axis=-1).reshape(-1, 9 * channels)
        return lax.dot_general(surroundings, matrix, (((1,), (1,)), ((), ())))

    parts = (
        strips.reshape(-1, count * rows, width, channels),
        above.reshape(-1, count, width, channels),
        below.reshape(-1, count, width, channels),
    )
    return lax.map(convolve, parts).reshape(n, height, width, features)


def row_groups(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """A matrix product for four neighbouring outputs of a row at once, for few channels.

    Each group of outputs shares 4 + K - 1 inputs of each of K rows, which are copied side by side:
    with three channels and a 3x3 kernel 54 numbers, where the surroundings of each output by itself
    would be 108. The product is (positions / 4, inputs) times (inputs, 4 * features). Its second
    factor holds the kernel four times between zeros, each time one step further right. The result
    lies in memory as the map does.
    """
    group = _GROUP
    n, height, width, channels = images.shape
    size, _, _, features = kernel.shape
    half, count = size // 2, width // group
    reach = group + size - 1
    padded = jnp.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
    own = padded[:, :, :width].reshape(n, -1, count, group * channels)
    next_ = padded[:, :, group:].reshape(n, -1, width - 1 + size - group, channels)
    next_ = jnp.pad(next_, ((0, 0), (0, 0), (0, group - size + 1), (0, 0)))
    next_ = next_.reshape(n, -1, count, group * channels)[..., : (size - 1) * channels]
    inputs = [x[:, row : row + height] for row in range(size) for x in (own, next_)]
    used = size * reach * channels
    filling = -used % 32  # matrix units work in such blocks
    inputs.append(jnp.zeros((n, height, count, filling), images.dtype))
    shifted = [
        jnp.pad(kernel, ((0, 0), (place, group - 1 - place), (0, 0), (0, 0)))
        for place in range(group)
    ]
    factor = jnp.stack(shifted, axis=3).reshape(used, group * features)
    factor = jnp.pad(factor, ((0, filling), (0, 0)))
    return (jnp.concatenate(inputs, axis=-1) @ factor).reshape(n, height, width, features)


def _suits_row_groups(images: Shape, kernel: Shape) -> bool:
    return 1 < kernel[0] <= _GROUP + 1 and kernel[2] < 8 and images[2] % _GROUP == 0


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(max(1, min(number, limit)), 0, -1) if number % d == 0)
