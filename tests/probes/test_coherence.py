"""Gradients of pairs and along lines where the answer is known, and the closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.probes.coherence import (
    autocorrelation,
    equicorrelated,
    gaussian_autocorrelation,
    gradient_correlation,
    half_gates_law,
    input_gradients,
    line_covariance,
    line_derivatives,
    noise_covariance,
    own_gradients,
    pair_correlation,
    relu_kernels,
)

KINDS = [
    {"norm": norm, "residual": residual} for norm in ("none", "batch") for residual in (False, True)
]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


# --- Instruments -------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_every_two_inputs_correlate_as_asked(correlation):
    inputs = jax.jit(lambda c: equicorrelated(jax.random.key(0), 5, (4, 4, 3), c))(correlation)
    flat = np.asarray(inputs).reshape(5, 48)
    wanted = np.full((5, 5), correlation) + (1 - correlation) * np.eye(5)
    np.testing.assert_allclose(flat @ flat.T / 48, wanted, atol=1e-5)


def test_more_inputs_than_directions():
    with pytest.raises(ValueError, match="more than 12 elements"):
        equicorrelated(jax.random.key(0), 12, (2, 2, 3), 0.5)


def test_a_linear_network_has_the_same_gradient_everywhere():
    matrix, inputs = random(6, 3), random(4, 6, seed=1)
    gradients = jax.jit(lambda x: input_gradients(lambda x: x @ matrix, x))(inputs)
    np.testing.assert_allclose(gradients, np.broadcast_to(matrix.T[:, None], (3, 4, 6)), rtol=1e-6)
    assert float(jax.jit(pair_correlation)(gradients)) == pytest.approx(1, abs=1e-6)
    along = jax.jit(lambda a, b: line_derivatives(lambda x: x @ matrix, a, b, jnp.arange(5.0)))
    derivatives = along(inputs[0], inputs[1])
    expected = np.broadcast_to((inputs[1] @ matrix)[:, None], (3, 5))
    np.testing.assert_allclose(derivatives, expected, rtol=1e-5)


def test_correlation_of_known_gradients_of_any_size():
    """Of three vectors at right angles and at 60 degrees; squares of these leave float32."""
    vectors = np.array([[1.0, 0.0], [0.5, 0.75**0.5], [0.0, 1.0]])
    scales = np.array([1e-30, 1.0, 1e30])[:, None]
    expected = (0.5 + 0 + 0.75**0.5) / 3
    gradients = (scales * vectors)[None].astype(np.float32)
    assert float(jax.jit(pair_correlation)(gradients)) == pytest.approx(expected, rel=1e-6)


def test_shared_gates_are_the_correlation():
    """Of relu(x) itself the gradients are the gates: two of each three active ones are shared."""
    inputs = np.array([[1.0, 2.0, 3.0, -1.0], [-1.0, 2.0, 3.0, 1.0]], np.float32)
    shared = jax.jit(lambda x: pair_correlation(input_gradients(jax.nn.relu, x)))(inputs)
    assert float(shared) == pytest.approx(2 / 3)


def test_rows_of_own_jacobians_where_inputs_act_on_each_other():
    matrix, inputs = random(4, 3), random(6, 4, seed=1)

    def normalized(x):
        z = jnp.tanh(x @ matrix)
        return (z - z.mean(0)) / z.std(0)

    def each(x):
        return jnp.tanh(x @ matrix)

    @jax.jit
    def measure(x):
        return (
            own_gradients(normalized, x),
            jax.jacobian(normalized)(x),  # (N, K, N, 4)
            input_gradients(normalized, x),
            own_gradients(each, x),
            input_gradients(each, x),
        )

    own, jacobian, summed, alone, together = map(np.asarray, measure(inputs))
    expected = np.stack([jacobian[i, :, i] for i in range(6)], 1)
    np.testing.assert_allclose(own, expected, atol=1e-5)
    # The sum over a batch behind its normalisation is zero, whatever the inputs.
    assert np.max(np.abs(own)) > 0.1
    np.testing.assert_allclose(summed, 0, atol=1e-5)
    np.testing.assert_allclose(alone, together, rtol=1e-5)


def test_derivatives_along_a_line():
    positions = np.linspace(-1, 1, 7, dtype=np.float32)
    found = jax.jit(
        lambda positions: line_derivatives(
            lambda x: jnp.stack([jnp.sin(x[:, 0, 0]), x[:, 0, 1] ** 2], 1),
            jnp.array([[0.5, 1.0]]),
            jnp.array([[2.0, 3.0]]),
            positions,
        )
    )(positions)
    expected = [2 * np.cos(0.5 + 2 * positions), 6 * (1 + 3 * positions)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_autocorrelation_of_known_sequences():
    alternating = np.resize([1.0, -1.0], 100)
    np.testing.assert_allclose(autocorrelation(alternating, [0, 1, 2]), [1, -0.99, 0.98])
    white = np.random.default_rng(0).standard_normal((400, 256))
    np.testing.assert_allclose(autocorrelation(white, [1, 5, 20]).mean(0), -1 / 256, atol=0.01)
    brown = autocorrelation(np.cumsum(white, -1), [1, 16, 64]).mean(0)
    sampled = gaussian_autocorrelation(noise_covariance("brown", 256), [1, 16, 64])
    np.testing.assert_allclose(sampled, brown, atol=0.04)
    assert 0.95 < sampled[0] < 0.99
    white_sampled = gaussian_autocorrelation(noise_covariance("white", 256), [1, 5, 20])
    np.testing.assert_allclose(white_sampled, 0, atol=0.01)


# --- Closed forms ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("correlation", "gates", "expected"),
    [
        (0, 8, 0.050),
        (0, 10, 0.034),
        (0, 13, 0.020),
        (0, 16, 0.013),
        (0.5, 8, 0.113),
        (0.5, 12, 0.059),
        (0.5, 13, 0.0513),
        (0.8, 13, 0.127),
        (0.8, 16, 0.092),
    ],
)
def test_plain_networks(correlation, gates, expected):
    found = gradient_correlation(correlation, gates)[-1]
    assert found == pytest.approx(expected, rel=0.015, abs=5e-4)


def exponent(correlations: np.ndarray, first: int, last: int) -> float:
    return float(np.log(correlations[last - 1] / correlations[first - 1]) / np.log(last / first))


def test_exponents():
    plain = gradient_correlation(0.5, 8000)
    assert exponent(plain, 13, 26) == pytest.approx(-2.0, abs=0.01)
    assert exponent(plain, 4000, 8000) == pytest.approx(-3, abs=0.01)
    normed = gradient_correlation(0, 8000, norm="batch", residual=True)
    assert exponent(normed, 4000, 8000) == pytest.approx(-np.pi / (2 * (np.pi - 1)), abs=1e-3)


def test_half_of_the_gates_where_inputs_do_not_correlate():
    gates = np.arange(1, 14)
    found = gradient_correlation(0, 13, norm="batch")
    np.testing.assert_allclose(found, half_gates_law(gates, norm="batch"), rtol=1e-9)
    np.testing.assert_allclose(half_gates_law(gates), 2.0**-gates)
    first = gradient_correlation(0, 1, residual=True)[0]
    assert first == pytest.approx(half_gates_law(1, residual=True)) == pytest.approx(0.75)
    assert half_gates_law(25, norm="batch", residual=True, beta=0.5) == pytest.approx(0.4)
    # Correlated inputs lose what they share at 0.73 a gate: halves in the end.
    found = gradient_correlation(0.9, 60, norm="batch")
    assert found[-1] / found[-2] == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_equal_inputs_have_equal_gradients(kind):
    np.testing.assert_allclose(gradient_correlation(1, 20, beta=0.5, **kind), 1, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_gradients_of_a_wide_network(kind):
    """Its statistics are frozen at those of independent inputs."""
    width, depth, beta = 512, 2, 0.7
    scales = (1 / width) ** 0.5, *[(2 / width) ** 0.5] * depth
    weights = [scale * random(width, width, seed=seed) for seed, scale in enumerate(scales)]
    statistics = []

    def forward(x, keep=False):
        z = x @ weights[0]
        for layer, matrix in enumerate(weights[1:]):
            if keep:
                statistics.append((z.mean(0), z.std(0)))
            mean, deviation = statistics[layer] if kind["norm"] == "batch" else (0, 1)
            branch = jax.nn.relu((z - mean) / deviation) @ matrix
            z = z + beta * branch if kind["residual"] else branch
        return z[:, :32]

    @jax.jit
    def measure(independent):
        forward(independent, keep=True)
        inputs = equicorrelated(jax.random.key(0), 16, (width,), 0.5)
        return pair_correlation(input_gradients(forward, inputs))

    measured = measure(random(512, width, seed=depth + 1))
    expected = gradient_correlation(0.5, depth, beta=beta, **kind)[-1]
    assert float(measured) == pytest.approx(expected, abs=0.03)
    assert abs(half_gates_law(depth, beta=beta, **kind) - expected) > 0.06


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_kernel_of_one_gate_against_sampling(kind):
    gram, beta, mean = np.array([[1, 0.6], [0.6, 2]]), 0.7, (2 * np.pi) ** -0.5
    z = np.random.default_rng(0).multivariate_normal([0, 0], gram, 400_000)
    relu = np.maximum(z, 0) - (mean if kind["norm"] == "batch" else 0)
    expected = kind["residual"] * gram + beta**2 * 2 * relu.T @ relu / len(z)
    kernels, _ = relu_kernels(gram, 1, beta=beta, **kind)
    np.testing.assert_allclose(kernels[0], expected, atol=0.01)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_derivatives_of_one_gate_along_a_line_against_sampling(norm):
    """Of relu(scale (a + t b)) with respect to t: the gate times scale b, whatever its mean."""
    positions = np.array([-1.5, -0.2, 0.4, 2.0])
    a, b = np.random.default_rng(0).standard_normal((2, 400_000, 1))
    derivatives = (a + positions * b > 0) * b
    expected = derivatives.T @ derivatives / len(a)
    found = line_covariance(positions, 1, scale=0.6, norm=norm)
    np.testing.assert_allclose(found, expected / expected.diagonal().mean(), atol=0.01)
