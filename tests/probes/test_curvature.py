"""Curvature where it is known: quadratic forms, a formula, and a small net's dense Hessian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from vgg_jax.models import VGG
from vgg_jax.probes.curvature import hessian_trace, hessian_vector_product, largest_eigenvalue


def quadratic(eigenvalues, seed=0):
    """Returns parameters, and a matrix of these eigenvalues: the Hessian of `largest`'s loss."""
    size = len(eigenvalues)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    params = {"a": np.ones((3, size // 4)), "b": np.ones(size - 3 * (size // 4))}
    params = {name: values.astype(np.float32) for name, values in params.items()}
    return params, rotation @ np.diag(eigenvalues) @ rotation.T


@functools.partial(jax.jit, static_argnames="iterations")
def largest(matrix, params, start, iterations):
    """The largest eigenvalue of a quadratic form over two arrays."""

    def loss(params):
        x = jnp.concatenate([params["a"].ravel(), params["b"]])
        return x @ matrix @ x / 2

    return largest_eigenvalue(loss, params, start, iterations)


@pytest.fixture(scope="module")
def net():
    """A net with batch norm of few parameters: its loss, parameters and dense Hessian."""
    model = VGG(stages=("3-3",), num_classes=3, norm="batch", head="linear", head_window=2)
    images = np.random.default_rng(0).standard_normal((6, 4, 4, 3), np.float32)
    labels = jax.nn.one_hot(jnp.arange(6) % 3, 3)
    variables = jax.jit(model.init)(jax.random.key(1), images)

    def loss(params):
        (logits, _), _ = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.mean(jnp.square(logits - labels))

    start, unravel = ravel_pytree(variables["params"])
    dense = jax.jit(jax.hessian(lambda w: loss(unravel(w))))(start)
    return loss, variables["params"], np.asarray(dense)


def normal_like(params, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), params)


def flat(tree):
    """All elements in one array, in the order of `ravel_pytree`."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.parametrize(
    "eigenvalues",
    [
        np.linspace(1, 20, 20),
        np.linspace(-30, 3, 20),
        np.repeat([1.0, 5.0], 10),
        -np.arange(1.0, 21),
        np.full(20, -2.0),
        np.zeros(20),
    ],
    ids=["positive", "mostly negative", "repeated", "all negative", "all the same", "zero"],
)
def test_largest_eigenvalue_of_a_quadratic_form(eigenvalues):
    params, matrix = quadratic(eigenvalues)
    # Several starts: one whose directions run out early has to continue in others.
    for seed in range(20):
        found = largest(matrix, params, normal_like(params, seed), 19)
        np.testing.assert_allclose(found.value, eigenvalues.max(), rtol=1e-3, atol=1e-6)
    vector = flat(found.vector)
    np.testing.assert_allclose(np.linalg.norm(vector), 1, rtol=1e-4)
    if len(set(eigenvalues)) > 2:
        np.testing.assert_allclose(matrix @ vector, found.value * vector, atol=2e-2)


def test_the_residual_bounds_the_error():
    eigenvalues = np.linspace(0, 10, 40)
    params, matrix = quadratic(eigenvalues)
    for iterations in (2, 5, 10):
        found = largest(matrix, params, normal_like(params), iterations)
        assert np.abs(eigenvalues - found.value).min() <= found.residual + 1e-4
        assert found.value <= 10 + 1e-4


def test_an_eigenvector_to_start_from_needs_two_iterations():
    params, matrix = quadratic(np.linspace(1, 20, 20))
    first = largest(matrix, params, normal_like(params), 18)
    again = largest(matrix, params, first.vector, 2)
    np.testing.assert_allclose(again.value, 20, rtol=1e-4)


def test_product_eigenvalue_and_trace_of_a_net_are_those_of_its_dense_hessian(net):
    loss, params, dense = net
    vector = normal_like(params)
    apply = jax.jit(functools.partial(hessian_vector_product, loss))
    product = flat(apply(params, vector))
    np.testing.assert_allclose(product, dense @ flat(vector), rtol=1e-3, atol=1e-4)
    found = jax.jit(lambda p: largest_eigenvalue(loss, p, vector, 30))(params)
    np.testing.assert_allclose(found.value, np.linalg.eigvalsh(dense)[-1], rtol=1e-3)
    trace, error = jax.jit(lambda p: hessian_trace(loss, p, jax.random.key(3), 400))(params)
    assert abs(float(trace - np.trace(dense))) < 4 * float(error)
    assert float(error) < 0.2 * abs(np.trace(dense))


def test_trace_of_a_diagonal_matrix_has_no_error():
    diagonal = jnp.arange(1.0, 6.0)
    trace, error = hessian_trace(
        lambda x: jnp.sum(diagonal * x**2) / 2, jnp.ones(5), jax.random.key(0), 4
    )
    np.testing.assert_allclose(trace, 15, rtol=1e-6)
    assert float(error) < 1e-5
