"""An operation made of a function: its derivatives are those it was given, to any order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.ops.bilinear import bilinear

traced: list[tuple[int, ...]] = []


def _weighted(first: jax.Array, second: jax.Array, *, weights: tuple[float, ...]) -> jax.Array:
    traced.append(first.shape)
    return first * second * jnp.asarray(weights, first.dtype)


# Each gradient has a factor of its own, by which it is recognised.
weighted = bilinear(
    _weighted,
    lambda first, second, *, weights: first,
    (
        lambda gradient, _, second, *, weights: 10 * weighted(gradient, second, weights=weights),
        lambda gradient, first, _, *, weights: 100 * weighted(first, gradient, weights=weights),
    ),
    static=["weights"],
)
FIRST, SECOND, WEIGHTS = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), (1.0, 0.5, 2.0)


def objective(first: jax.Array, second: jax.Array) -> jax.Array:
    return weighted(first, second, weights=WEIGHTS).sum()


@pytest.mark.parametrize("transform", [jax.jit, lambda function: function], ids=["jit", "eager"])
def test_the_value_is_the_functions(transform):
    found = transform(lambda *pair: weighted(*pair, weights=WEIGHTS))(FIRST, SECOND)
    np.testing.assert_allclose(found, FIRST * SECOND * WEIGHTS)


def test_gradients_are_those_given():
    of_first, of_second = jax.grad(objective, (0, 1))(FIRST, SECOND)
    np.testing.assert_allclose(of_first, 10 * SECOND * WEIGHTS)
    np.testing.assert_allclose(of_second, 100 * FIRST * WEIGHTS)


def test_forwards_it_is_linear_in_each():
    tangents = np.array([1.0, -1.0, 2.0]), np.array([0.5, 0.0, 3.0])
    _, found = jax.jvp(objective, (FIRST, SECOND), tangents)
    wanted = (tangents[0] * SECOND + FIRST * tangents[1]) * WEIGHTS
    np.testing.assert_allclose(found, wanted.sum())


def test_the_second_order_derives_the_gradient_that_was_given():
    mixed = jax.jacobian(jax.grad(objective, 0), 1)(FIRST, SECOND)
    assert np.count_nonzero(mixed - np.diag(np.diag(mixed))) == 0
    # 10 of the gradient by the first, 100 of that by the second.
    np.testing.assert_allclose(np.diag(mixed), 1000 * np.array(WEIGHTS))


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 1)])
def test_vmap_is_that_of_the_function(axes):
    several = [
        operand if axis is None else jnp.stack([operand, 2 * operand], axis)
        for operand, axis in zip((FIRST, SECOND), axes, strict=True)
    ]
    found = jax.vmap(lambda *pair: weighted(*pair, weights=WEIGHTS), axes)(*several)
    factor = 4 if None not in axes else 2
    np.testing.assert_allclose(found, np.outer([1, factor], FIRST * SECOND * WEIGHTS))


def test_it_is_traced_once_for_each_shape():
    def loss(first: jax.Array, second: jax.Array) -> jax.Array:
        for _ in range(3):
            first = weighted(first, second, weights=WEIGHTS)
        return first.sum()

    traced.clear()
    jax.jit(jax.grad(loss)).lower(np.ones((7, 3)), np.ones((7, 3)))
    assert traced == [(7, 3)]


def test_operands_that_do_not_fit_are_refused():
    with pytest.raises(TypeError, match="incompatible shapes"):
        weighted(np.ones(3), np.ones(4), weights=WEIGHTS)
