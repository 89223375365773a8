"""Pooling against the library's windowed reduction, ties and odd sizes included."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from vgg_jax.ops import pool
from vgg_jax.ops.platforms import every_platform

WINDOW = (1, 2, 2, 1)
SIZES = [(2, 2), (7, 6), (5, 9), (1, 4)]


def library_max(images: jax.Array) -> jax.Array:
    return lax.reduce_window(images, -jnp.inf, lax.max, WINDOW, WINDOW, "VALID")


def relu_then_library_max(images: jax.Array) -> jax.Array:
    return library_max(jax.nn.relu(images))


def library_mean(images: jax.Array) -> jax.Array:
    return lax.reduce_window(images, 0.0, lax.add, WINDOW, WINDOW, "VALID") / 4


PAIRS = [
    (pool.max_pool, library_max),
    (pool.placed_max, library_max),  # what GPUs run
    (pool.relu_max_pool, relu_then_library_max),
    (lambda x: jax.nn.relu(pool.placed_max(x)), relu_then_library_max),  # what GPUs run
    (pool.avg_pool, library_mean),
]


def with_ties(height: int, width: int, dtype: str = "float32") -> jax.Array:
    """Small integers: most windows hold equal maxima."""
    values = np.random.default_rng(0).integers(-1, 2, (3, height, width, 5))
    return jnp.asarray(values, dtype)


def weighted(operation: Callable, images: jax.Array) -> jax.Array:
    pooled = operation(images)
    weights = jnp.arange(1, pooled.size + 1, dtype=pooled.dtype).reshape(pooled.shape)
    return jnp.sum(weights * pooled**3 + pooled * weights)


@pytest.mark.parametrize(("operation", "library"), PAIRS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_the_library(
    operation: Callable, library: Callable, size: tuple[int, int], dtype: str
) -> None:
    images = with_ties(*size, dtype)
    pooled = jax.jit(operation)(images)
    assert pooled.dtype == images.dtype
    np.testing.assert_array_equal(pooled, jax.jit(library)(images))


@pytest.mark.parametrize(("operation", "library"), PAIRS)
@pytest.mark.parametrize("size", SIZES)
def test_gradient_equals_the_librarys_at_ties(
    operation: Callable, library: Callable, size: tuple[int, int]
) -> None:
    images = with_ties(*size)
    ours, theirs = (
        jax.jit(jax.grad(functools.partial(weighted, chosen))) for chosen in (operation, library)
    )
    np.testing.assert_allclose(ours(images), theirs(images), rtol=1e-6)


@pytest.mark.parametrize(("operation", "library"), PAIRS)
def test_second_order_and_vmap(operation: Callable, library: Callable) -> None:
    images = with_ties(4, 5)

    @functools.partial(jax.jit, static_argnums=0)
    def curvature(chosen: Callable) -> jax.Array:
        gradient = jax.grad(lambda x: weighted(chosen, x))
        return jax.vmap(lambda x: jax.jvp(gradient, (x[None],), (jnp.cos(x)[None],))[1])(images)

    np.testing.assert_allclose(curvature(operation), curvature(library), rtol=1e-5)


@pytest.mark.parametrize("operation", [pool.max_pool, pool.placed_max])
@pytest.mark.parametrize("position", range(4))
def test_not_a_number_is_not_lost(operation: Callable, position: int) -> None:
    images = np.where(np.arange(4) == position, np.nan, 0).reshape(1, 2, 2, 1)
    assert np.isnan(jax.jit(operation)(images)).all()


def test_a_place_is_all_that_the_backward_pass_keeps() -> None:
    images = with_ties(4, 6)
    _, pullback = jax.vjp(pool.placed_max, images)
    kept = [leaf for leaf in jax.tree.leaves(pullback) if leaf.ndim]
    assert [(leaf.shape, leaf.dtype) for leaf in kept] == [((3, 2, 3, 5), jnp.uint8)]


@pytest.mark.parametrize("operation", [pool.max_pool, pool.relu_max_pool])
@pytest.mark.parametrize(("platform", "operations"), [("cuda", 0), ("tpu", 1)])
def test_the_library_operation_is_for_tpus(
    operation: Callable, platform: str, operations: int
) -> None:
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(operation(x))))
    with every_platform():
        text = gradient.trace(with_ties(4, 4)).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.select_and_scatter") == operations
    assert ("3x2x2x2x2x5xi1" in text) == (platform == "cuda")  # where each window has its maximum
