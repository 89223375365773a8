"""Same-padded 2-D convolution."""

import jax
from jax import lax


def conv2d(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and zero padding that keeps the map size.

    Args:
        images: float (N, H, W, C_in).
        kernel: float (K, K, C_in, C_out), K odd.

    Returns:
        Array (N, H, W, C_out) in the dtype of `images`.
    """
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
