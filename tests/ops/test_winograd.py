"""Winograd's algorithm, its two gradients and theirs, against XLA's convolution."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.convolutions import (
    assert_same,
    gradients,
    library,
    library_results,
    operands,
    output_and_gradients,
)
from vgg_jax.ops import winograd as module
from vgg_jax.ops.winograd import winograd

# (N, H, W, C_in, C_out, K), and the most tiles of a part. No other test has these shapes: an
# operation is traced once for a shape, with the tiles of that time.
CASES = {
    "maps that are no multiple of the tile": ((6, 9, 7, 70, 66, 3), 512),
    "narrower than a tile": ((1, 1, 2, 3, 4, 3), 512),
    "whole tiles": ((5, 8, 8, 96, 80, 3), 512),
    "several images a part": ((40, 2, 3, 2, 3, 3), 8),
    "a row of tiles a part": ((3, 9, 10, 4, 5, 3), 1),
    "two rows of tiles a part, of two images": ((2, 12, 5, 3, 2, 3), 4),
}


@pytest.mark.parametrize(("shape", "tiles"), CASES.values(), ids=CASES)
def test_equals_the_library(
    shape: tuple[int, ...], tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART_TILES", tiles)
    with jax.enable_x64(True):
        actual = output_and_gradients(winograd)(*operands(shape, "float64"))
    assert_same(actual, library_results(shape), 1e-10)


def third_order(convolve: Callable) -> Callable:
    """Gradients, and both ways to derive them twice more."""

    def squares(*pair: jax.Array) -> jax.Array:
        return sum(jnp.sum(leaf**2) for leaf in gradients(convolve)(*pair))

    def of(images: jax.Array, kernel: jax.Array) -> tuple:
        along = jnp.cos(images), jnp.cos(kernel)
        second = jax.grad(squares, (0, 1))
        forward = jax.jvp(gradients(convolve), (images, kernel), along)
        return forward, jax.jvp(second, (images, kernel), along)

    return of


def test_derivatives_equal_the_library_to_the_third_order() -> None:
    with jax.enable_x64(True):
        pair = operands((2, 6, 5, 4, 3, 3), "float64")
        assert_same(
            jax.jit(third_order(winograd))(*pair), jax.jit(third_order(library))(*pair), 1e-9
        )


def test_no_derivative_runs_through_the_tiles_backwards() -> None:
    """Each is one of the two operations, which is what makes them fast."""
    shape = (2, 6, 5, 4, 3, 3)
    text = str(jax.make_jaxpr(third_order(winograd))(*operands(shape, "float32")))
    assert "_winograd_of_kernel" in text
    assert not any(name in text for name in ("while", "scan", "dot_general"))


@pytest.mark.parametrize("channels", [64, 256])
def test_rounding_error(channels: int) -> None:
    """In float32, where its transforms lose two to three bits against the library's 1e-6."""
    images, kernel = operands((4, 8, 8, channels, channels, 3), "float32")
    with jax.enable_x64(True):
        exact = [leaf.astype("float64") for leaf in (images, kernel)]
        desired = output_and_gradients(library)(*exact)
    with jax.default_matmul_precision("float32"):  # wherever the tests run
        actual = output_and_gradients(winograd)(images, kernel)
    for leaf, reference in zip(actual, desired, strict=True):
        reference = np.asarray(reference)
        error = np.linalg.norm(np.asarray(leaf, np.float64) - reference)
        assert error < 1e-5 * np.linalg.norm(reference)
