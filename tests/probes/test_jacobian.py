"""Jacobians and their singular values, against closed forms and against simulated matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.models import VGG
from vgg_jax.probes.jacobian import (
    gaussian_product_edge,
    jacobian,
    log_norm,
    log_norm_to_leading_order,
    log_squared_norm,
    predicted_relative_variance,
    pushforward,
    relative_variance,
)


def test_jacobian_of_a_linear_map_is_its_matrix():
    matrix = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    found = jacobian(lambda x: (matrix @ x.ravel()).reshape(3, 2), jnp.ones((2, 2)))
    np.testing.assert_allclose(found, matrix, rtol=1e-6)


def test_pushforward_through_batch_norm_and_maximum():
    """Both define their own backward pass; differences of the function know nothing of it."""
    model = VGG(
        stages=("3-4", "3-4"),
        norm="batch",
        head="linear",
        head_window=1,
        num_classes=3,
        activation="tanh",
    )
    rng = np.random.default_rng(0)
    x, u = (jnp.asarray(rng.standard_normal((2, 4, 4, 3))) for _ in range(2))
    variables = jax.jit(model.init)(jax.random.key(0), x)

    @jax.jit
    def function(x):
        return model.apply(variables, x, train=True, mutable=["batch_stats"])[0][0]

    step = 2e-3
    difference = (function(x + step * u) - function(x - step * u)) / (2 * step)
    found = pushforward(function, x)(u)
    np.testing.assert_allclose(found, difference, rtol=0.01, atol=0.02)
    matrix = jacobian(function, x)
    assert matrix.shape == (6, 96)
    np.testing.assert_allclose(matrix @ u.ravel(), found.ravel(), rtol=1e-3, atol=1e-4)


def test_log_squared_norm_of_numbers_whose_squares_leave_float32():
    assert log_squared_norm(jnp.full((2, 2), 1e-30)) == pytest.approx(
        np.log(4) - 60 * np.log(10), rel=1e-6
    )


def test_leading_order_counts_every_layer():
    found = log_norm_to_leading_order([64, 128], linear_width=10)
    assert found.variance == pytest.approx(5 / 64 + 5 / 128 + 2 / 10)
    assert found.mean == pytest.approx(-2.5 / 64 - 2.5 / 128 - 1 / 10)


def test_exact_moments_reach_the_leading_order_in_wide_layers():
    exact, leading = log_norm([4096] * 3, 4096), log_norm_to_leading_order([4096] * 3, 4096)
    assert exact.variance == pytest.approx(leading.variance, rel=2e-3)
    assert exact.mean == pytest.approx(leading.mean, rel=2e-3)


def test_exact_moments_of_one_neuron():
    """Given that it is on, the logarithm of chi-square with one degree of freedom over 1/2."""
    found = log_norm([1])
    assert found.variance == pytest.approx(np.pi**2 / 2)
    assert found.mean == pytest.approx(-np.euler_gamma)


def test_exact_moments_are_those_of_simulated_relu_nets():
    """Gates opened by one input, derivatives along another direction that is not independent."""
    rng, width, count = np.random.default_rng(0), 8, 20_000
    x = np.ones((count, width))
    u = np.ones((count, width)) / np.sqrt(width)  # along x itself
    u[:, 0] += 1
    start = np.sum(u**2, -1)
    for _ in range(2):
        weights = rng.standard_normal((count, width, width)) * np.sqrt(2 / width)
        z, u = (np.einsum("nij,nj->ni", weights, vector) for vector in (x, u))
        x, u = np.maximum(z, 0), u * (z > 0)
    squared = np.sum(u**2, -1) / start
    logs = np.log(squared[squared > 0])  # a layer may be off altogether
    exact = log_norm([width, width])
    error = np.std(logs) / np.sqrt(len(logs))
    assert abs(np.mean(logs) - exact.mean) < 4 * error
    assert np.var(logs) == pytest.approx(exact.variance, rel=0.05)
    assert abs(np.var(logs) / log_norm_to_leading_order([width] * 2).variance - 1) > 0.1


def test_edge_of_one_gaussian_matrix_is_that_of_marchenko_and_pastur():
    assert gaussian_product_edge(1) == 4
    assert gaussian_product_edge(2) == 27 / 4


def squares(
    activation: str, orthogonal: bool, layers: int, width: int, seed: int = 0
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    gain = {"relu": 2**0.5}.get(activation, 1.0)
    x, product = rng.standard_normal(width), np.eye(width)
    for _ in range(layers):
        weights = rng.standard_normal((width, width)) / np.sqrt(width)
        if orthogonal:
            weights = np.linalg.qr(weights)[0]
        z = gain * weights @ x
        slope = {"relu": 1.0 * (z > 0), "tanh": 1 / np.cosh(z) ** 2, "linear": np.ones(width)}
        product = slope[activation][:, None] * (gain * weights @ product)
        x = {"relu": np.maximum(z, 0), "tanh": np.tanh(z), "linear": z}[activation]
    return np.linalg.svd(product, compute_uv=False) ** 2


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
def test_relative_variance_of_wide_nets(activation, orthogonal):
    drawn = [squares(activation, orthogonal, 3, 300, seed) for seed in range(4)]
    found = np.mean([relative_variance(values) for values in drawn])
    predicted = predicted_relative_variance(3, activation, orthogonal)
    assert found == pytest.approx(predicted, rel=0.1, abs=1e-9)


def test_largest_squared_singular_value_of_a_wide_linear_net():
    found = squares("linear", False, 3, 600).max()
    assert found == pytest.approx(gaussian_product_edge(3), rel=0.05)


def test_jacobian_is_compiled_with_what_it_depends_on():
    found = jax.jit(lambda a: jacobian(lambda x: jnp.tanh(a * x), jnp.zeros(3)))(2.0)
    np.testing.assert_allclose(found, 2 * np.eye(3), atol=1e-6)
