"""The noise of a gradient: exact on a few examples, and estimated on drawn ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.probes.noise import gradient_noise


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


@pytest.fixture
def few():
    """Twelve examples whose gradients are themselves: of the loss theta x."""
    rng = np.random.default_rng(0)
    return rng.normal(1.0, 2.0, (12, 3)).astype(np.float32)


def inner(params, part):
    return jnp.mean(part @ params["a"])


def test_one_example_a_part_gives_the_variance_of_the_sample(few):
    noise = gradient_noise(inner, {"a": jnp.zeros(3)}, few, 12, ["a"])
    variance = few.var(0, ddof=1).sum()
    assert float(noise["gradient_variance"]["a"]) == pytest.approx(variance, rel=1e-5)
    # |G|^2 without the share of the noise in the mean of twelve.
    signal = (few.mean(0) ** 2).sum() - variance / 12
    assert float(noise["gradient_signal"]["a"]) == pytest.approx(signal, rel=1e-4)
    assert float(noise["noise_scale"]["a"]) == pytest.approx(variance / signal, rel=1e-4)


def test_larger_parts_give_the_variance_of_their_means_times_their_size(few):
    noise = gradient_noise(inner, {"a": jnp.zeros(3)}, few, 4, ["a"])
    means = few.reshape(4, 3, 3).mean(1)
    variance = 3 * means.var(0, ddof=1).sum()
    assert float(noise["gradient_variance"]["a"]) == pytest.approx(variance, rel=1e-5)


def test_a_larger_loss_has_the_same_noise_scale(few):
    params = {"a": jnp.zeros(3)}
    one = gradient_noise(inner, params, few, 6, ["a"])
    ten = gradient_noise(lambda p, x: 10 * inner(p, x), params, few, 6, ["a"])
    for quantity, factor in (
        ("gradient_variance", 100),
        ("gradient_signal", 100),
        ("noise_scale", 1),
    ):
        expected = factor * float(one[quantity]["a"])
        assert float(ten[quantity]["a"]) == pytest.approx(expected, rel=1e-4)


def test_equal_examples_have_no_noise():
    x = jnp.broadcast_to(jnp.array([3.0, 4.0]), (8, 2))
    noise = gradient_noise(inner, {"a": jnp.zeros(2)}, x, 4, ["a"])
    assert float(noise["gradient_variance"]["a"]) == pytest.approx(0, abs=1e-4)
    assert float(noise["gradient_signal"]["a"]) == pytest.approx(25)
    assert float(noise["noise_scale"]["a"]) == pytest.approx(0, abs=1e-5)
