"""Layer scales and statistics of functions whose gradients are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.probes.gradients import layer_scales, layer_statistics
from vgg_jax.probes.noise import gradient_noise
from vgg_jax.probes.statistics import preactivation_statistics, root_mean_square


def test_scales_of_a_product_chain():
    def forward(perturbations):
        a = jnp.array([1.0, 2.0, 3.0]) + perturbations.get("a", 0)
        b = 4 * a + perturbations.get("b", 0)
        return jnp.sum(b**2), {"a": a, "b": b}

    values, gradients = layer_scales(forward, ["a", "b"])
    b = 4 * np.array([1.0, 2.0, 3.0])
    rms = {"a": np.sqrt(14 / 3), "b": np.sqrt(np.mean(b**2))}
    assert {k: float(v) for k, v in values.items()} == pytest.approx(rms, rel=1e-6)
    expected = {"a": 8 * rms["b"], "b": 2 * rms["b"]}
    assert {k: float(v) for k, v in gradients.items()} == pytest.approx(expected, rel=1e-6)


def test_statistics_of_two_layers():
    """Against the chain rule written out for x -> relu(x A) B, loss the sum of the outputs."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 1, 1, 3)).astype(np.float32)
    kernels = [rng.standard_normal(shape).astype(np.float32) for shape in ((3, 4), (4, 2))]
    params = {"one": {"kernel": kernels[0]}, "two": {"kernel": kernels[1]}}

    def loss_fn(params, perturbations):
        first = x @ params["one"]["kernel"] + perturbations.get("z1", 0)
        second = jax.nn.relu(first) @ params["two"]["kernel"] + perturbations.get("z2", 0)
        return jnp.sum(second), {"z1": first, "z2": second}

    measured, loss = layer_statistics(
        loss_fn,
        params,
        {"one": "z1", "two": "z2"},
        jax.nn.relu,
        lambda grads: jax.tree.map(lambda g: -0.1 * g, grads),
    )
    z = x.reshape(5, 3) @ kernels[0]
    relu = np.maximum(z, 0)
    gradient_z = (z > 0) * kernels[1].sum(1)
    gradients = [x.reshape(5, 3).T @ gradient_z, relu.T @ np.ones((5, 2))]
    assert float(loss) == pytest.approx((relu @ kernels[1]).sum(), rel=1e-5)
    for i, layer in enumerate(params):
        norm, size = np.linalg.norm(gradients[i]), np.linalg.norm(kernels[i])
        for quantity, expected in (
            ("weight_grad_norm", norm),
            ("param_norm", size),
            ("grad_param_ratio", norm / size),
            ("update_ratio", 0.1 * norm / size),
        ):
            assert float(measured[quantity][layer]) == pytest.approx(expected, rel=1e-5)
    rms = np.sqrt(np.mean(gradient_z**2))
    assert float(measured["activation_grad_rms"]["one"]) == pytest.approx(rms, rel=1e-5)
    assert float(measured["activation_grad_rms"]["two"]) == pytest.approx(1)
    assert float(measured["saturation_fraction"]["one"]) == pytest.approx(np.mean(z <= 0))
    assert "two" not in measured["dead_fraction"]  # no activation


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_root_mean_square_of_numbers_whose_squares_float32_does_not_hold(scale):
    x = jnp.array([3.0, -4.0]) * scale
    assert float(root_mean_square(x)) == pytest.approx(scale * 12.5**0.5, rel=1e-6)


def test_root_mean_square_of_zeros_and_of_what_is_not_finite():
    assert float(root_mean_square(jnp.zeros(3))) == 0
    assert not np.isfinite(root_mean_square(jnp.array([1.0, jnp.inf])))


@pytest.mark.parametrize(
    ("activation", "saturated"), [(jax.nn.relu, -0.1), (jnp.tanh, 3.0), (jax.nn.sigmoid, -6.0)]
)
def test_dead_channels_are_off_for_every_example_and_position(activation, saturated):
    z = jnp.full((2, 2, 2, 4), 0.1)
    z = z.at[..., 0].set(saturated)  # everywhere
    z = z.at[0, ..., 1].set(saturated)  # for one example of two
    z = z.at[:, 0, 0, 2].set(saturated)  # at one position of four
    statistics = preactivation_statistics(z, activation)
    assert float(statistics["dead_fraction"]) == 0.25
    assert float(statistics["saturation_fraction"]) == (8 + 4 + 2) / 32
    assert float(statistics["preactivation_mean"]) == pytest.approx(float(z.mean()), rel=1e-5)
    assert float(statistics["preactivation_variance"]) == pytest.approx(float(z.var()), rel=1e-5)


def test_noise_scale_of_a_known_covariance():
    """Gradients theta - x: signal |theta - mean|^2, variance that of x in every direction."""
    features, signal, deviation = 50, 0.3, 2.0
    x = deviation * jax.random.normal(jax.random.key(0), (4096, features))
    params = {"a": jnp.full(features, signal), "b": jnp.zeros(1)}

    def loss_fn(params, part):
        return jnp.mean(jnp.sum((params["a"] - part) ** 2, -1)) / 2 + jnp.sum(params["b"])

    noise = gradient_noise(loss_fn, params, x, 64, ["a"])
    assert float(noise["gradient_variance"]["a"]) == pytest.approx(features * deviation**2, rel=0.1)
    assert float(noise["gradient_signal"]["a"]) == pytest.approx(features * signal**2, rel=0.15)
    # The layer that is not asked for counts in "all": a gradient of 1 without noise.
    assert float(noise["gradient_signal"]["all"]) == pytest.approx(
        float(noise["gradient_signal"]["a"]) + 1, rel=1e-4
    )
    ratio = noise["gradient_variance"]["all"] / noise["gradient_signal"]["all"]
    assert float(noise["noise_scale"]["all"]) == pytest.approx(float(ratio))


def test_noise_without_signal_has_no_scale():
    x = jnp.array([[1.0], [-1.0], [1.0], [-1.0]])
    noise = gradient_noise(lambda p, part: jnp.mean(p["a"] * part), {"a": jnp.zeros(1)}, x, 4, "a")
    assert np.isnan(noise["noise_scale"]["a"])
    assert float(noise["gradient_signal"]["a"]) < 0
