"""The library's convolution and its derivatives, which keep one order of axes."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vgg_jax.ops.canonical import Padding, convolve

# (N, H, W, C_in, C_out, K_h, K_w), and the padding.
CASES: dict[str, tuple[tuple[int, ...], Padding]] = {
    "same": ((3, 6, 5, 4, 2, 3, 3), ((1, 1), (1, 1))),
    "none, kernel that is not square": ((2, 6, 7, 2, 3, 3, 2), ((0, 0), (0, 0))),
    "more on one side": ((1, 4, 5, 3, 2, 3, 5), ((0, 2), (1, 3))),
    "more than the kernel reaches": ((2, 4, 3, 2, 2, 2, 2), ((2, 0), (3, 1))),
}


def operands(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    n, height, width, inputs, outputs, rows, columns = shape
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n, height, width, inputs))
    return jnp.asarray(images), jnp.asarray(rng.standard_normal((rows, columns, inputs, outputs)))


def library(images: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(images, kernel, (1, 1), padding, dimension_numbers=axes)


def objective(convolution: Callable, padding: Padding) -> Callable:
    return lambda images, kernel: jnp.sum(jnp.sin(convolution(images, kernel, padding)))


def third_order(convolution: Callable, padding: Padding) -> Callable:
    """Output, gradients, and both ways to derive those once more."""

    def of(images: jax.Array, kernel: jax.Array) -> tuple:
        gradients = jax.grad(objective(convolution, padding), (0, 1))

        def squares(*pair: jax.Array) -> jax.Array:
            return sum(jnp.sum(leaf**2) for leaf in gradients(*pair))

        along = jnp.cos(images), jnp.cos(kernel)
        forward = jax.jvp(gradients, (images, kernel), along)
        reverse = jax.grad(squares, (0, 1))
        again = jax.jvp(reverse, (images, kernel), along)
        return convolution(images, kernel, padding), forward, again

    return of


@pytest.mark.parametrize(("shape", "padding"), CASES.values(), ids=CASES)
def test_equals_the_library_to_the_third_order(shape, padding):
    with jax.enable_x64(True):
        pair = operands(shape)
        wanted = jax.jit(third_order(library, padding))(*pair)
        found = jax.jit(third_order(convolve, padding))(*pair)
    jax.tree.map(lambda f, w: np.testing.assert_allclose(f, w, 1e-10, 1e-10), found, wanted)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 2)])
def test_vmap_and_eager_equal_the_library(axes):
    images, kernel = operands(CASES["same"][0])
    several = [
        operand if axis is None else jnp.stack([operand, -operand, 2 * operand], axis)
        for operand, axis in zip((images, kernel), axes, strict=True)
    ]
    gradients = [
        jax.vmap(jax.grad(objective(convolution, ((1, 1), (1, 1))), (0, 1)), axes)(*several)
        for convolution in (library, convolve)
    ]
    jax.tree.map(lambda f, w: np.testing.assert_allclose(f, w, 1e-4, 1e-4), *gradients)


def axes_in_a_loop(derivative: Callable) -> set[str]:
    """Orders of axes (images, kernel, output) of the convolutions in a loop's compiled body."""
    pair = operands((4, 8, 8, 3, 3, 3, 3))
    looped = jax.jit(lambda *pair: lax.fori_loop(0, 3, lambda _, pair: derivative(*pair), pair))
    return set(re.findall(r"dim_labels=(\S+?)[,\s]", looped.lower(*pair).compile().as_text()))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of XLA's CPU backend")
def test_derivatives_in_a_loop_keep_the_axes_that_run_fast():
    def gradients(convolution: Callable) -> Callable:
        return jax.grad(objective(convolution, ((1, 1), (1, 1))), (0, 1))

    def hessian_product(*pair: jax.Array) -> tuple:
        return jax.jvp(gradients(convolve), pair, pair)[1]

    fast = {"b01f_01io->b01f"}
    assert axes_in_a_loop(gradients(convolve)) == fast
    assert axes_in_a_loop(hessian_product) == fast
    # Once this fails, XLA has learnt it, and ops/canonical.py may go.
    assert axes_in_a_loop(gradients(library)) != fast
