"""Statistics of arrays, against NumPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.probes.statistics import preactivation_statistics, root_mean_square, slopes


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


def test_relu_is_dead_where_it_is_off_and_a_layer_without_activation_has_no_such_share():
    z = jax.random.normal(jax.random.key(0), (6, 3, 3, 5))
    statistics = preactivation_statistics(z, jax.nn.relu)
    assert float(statistics["saturation_fraction"]) == pytest.approx(float((z <= 0).mean()))
    assert float(statistics["dead_fraction"]) == 0
    assert statistics.keys() - preactivation_statistics(z, None).keys() == {
        "saturation_fraction",
        "dead_fraction",
    }


def test_half_precision_is_measured_in_float32():
    z = jnp.full((64, 8, 8, 2), 3.0, jnp.bfloat16)  # whose sum of squares bfloat16 does not hold
    for value in preactivation_statistics(z, None).values():
        assert value.dtype == jnp.float32
    assert float(preactivation_statistics(z, None)["preactivation_rms"]) == pytest.approx(3)
    assert float(preactivation_statistics(z, None)["preactivation_variance"]) == 0


def test_slopes_are_the_derivatives():
    z = jnp.linspace(-3, 3, 12)
    known = {
        jax.nn.relu: z > 0,
        jnp.tanh: 1 - np.tanh(z) ** 2,
        jax.nn.sigmoid: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    }
    for activation, expected in known.items():
        np.testing.assert_allclose(slopes(activation, z), expected, atol=1e-6)
