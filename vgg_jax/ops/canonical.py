"""XLA's convolution for a CPU, with derivatives that are as fast inside loops as outside.

XLA brings the axes of a convolution into the order that its fast CPU code asks for, but only in a
program's entry computation. In the body of a loop (`lax.scan`, `lax.map`: several steps per
dispatch, accumulated gradients, products with a Hessian) the gradients that JAX derives keep theirs
and become plain loops: 3 to 15 times slower with respect to the images, 30 to 200 times with
respect to the kernel (experiments/conv_formulations, `loops`). Here both gradients exchange the
axes of their operands beforehand, and so are convolutions of the same kind; derivatives of any
order stay fast. Under `vmap` it is JAX's convolution again, with the gradients that JAX derives.
"""

from typing import Any

import jax
from jax import lax

from vgg_jax.ops.bilinear import bilinear

Shape = tuple[int, ...]
Padding = tuple[tuple[int, int], tuple[int, int]]


def convolve(images: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Convolves with stride 1.

    Args:
      images: float (N, H, W, C_in).
      kernel: float (K_h, K_w, C_in, C_out), of the dtype of `images`.
      padding: zeros before and after the rows, and before and after the columns.

    Returns:
      Array (N, H + padding - K_h + 1, W + padding - K_w + 1, C_out) in the dtype of `images`.
    """
    return _convolve(images, kernel, padding=padding)


def _library(images: jax.Array, kernel: jax.Array, *, padding: Padding) -> jax.Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=axes)


def _shape(images: Shape, kernel: Shape, *, padding: Padding) -> Shape:
    rows, columns = (
        size + sum(margin) - extent + 1
        for size, margin, extent in zip(images[1:3], padding, kernel[:2], strict=True)
    )
    return images[0], rows, columns, kernel[3]


def _gradient_of_images(
    gradient: jax.Array, _: Any, kernel: jax.Array, *, padding: Padding
) -> jax.Array:
    rows, columns = (
        (extent - 1 - before, extent - 1 - after)
        for extent, (before, after) in zip(kernel.shape[:2], padding, strict=True)
    )
    return convolve(gradient, lax.rev(kernel, (0, 1)).swapaxes(2, 3), (rows, columns))


def _gradient_of_kernel(
    gradient: jax.Array, images: jax.Array, _: Any, *, padding: Padding
) -> jax.Array:
    # The sum is over images and positions: images stand where channels did.
    by_channel = convolve(images.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3), padding)
    return by_channel.transpose(1, 2, 0, 3)


_convolve = bilinear(
    _library, _shape, (_gradient_of_images, _gradient_of_kernel), static=["padding"]
)
