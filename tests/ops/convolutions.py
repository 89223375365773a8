"""Operands, XLA's convolution and derivatives, to hold a convolution against."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def library(images: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def operands(shape: tuple[int, ...], dtype: str) -> tuple[jax.Array, jax.Array]:
    n, height, width, inputs, outputs, size = shape
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n, height, width, inputs))
    kernel = rng.standard_normal((size, size, inputs, outputs)) / np.sqrt(size * size * inputs)
    return jnp.asarray(images, dtype), jnp.asarray(kernel, dtype)


def loss(convolve: Callable) -> Callable:
    """A scalar function that is nonlinear before and after the convolution."""
    return lambda images, kernel: jnp.sum(jnp.sin(convolve(jnp.sin(images), kernel)))


def gradients(convolve: Callable) -> Callable:
    return jax.grad(loss(convolve), (0, 1))


def output_and_gradients(convolve: Callable) -> Callable:
    """All in one program: it is compiled once."""
    return jax.jit(lambda *operands: (convolve(*operands), *gradients(convolve)(*operands)))


@functools.cache  # several formulations are held against the same
def library_results(shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
    with jax.enable_x64(True):
        return jax.device_get(output_and_gradients(library)(*operands(shape, "float64")))


def assert_same(actual: object, desired: object, tolerance: float) -> None:
    jax.tree.map(
        lambda a, d: np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(d, np.float64), tolerance, tolerance
        ),
        actual,
        desired,
    )
