"""The correlation map of tanh and ReLU nets, against what is known in closed form."""

import math

import numpy as np
import pytest

from vgg_jax.probes.mean_field import (
    TanhMeanField,
    relu_distance,
    relu_norm_length,
    tanh_slope_ratio,
)
from vgg_jax.probes.theory import activation_moments, relu_correlation


def test_small_signals_are_linear():
    """tanh(z) = z: q = b / (1 - w), and the slope of the map is w."""
    net = TanhMeanField(0.5, 1e-6)
    assert net.square == pytest.approx(2e-6, rel=1e-5)
    assert net.slope(1.0) == pytest.approx(0.5, rel=1e-5)
    assert net.correlation_length == pytest.approx(1 / math.log(2), rel=1e-5)


@pytest.mark.parametrize("variance", [0.8, 1.4, 2.5, 4.0])
def test_fixed_points_are_fixed_and_iterating_reaches_them(variance):
    net = TanhMeanField(variance, 0.05)
    square = float(activation_moments("tanh", np.array(net.square)).square)
    assert variance * square + 0.05 == pytest.approx(net.square, rel=1e-9)
    assert net.correlation(1.0) == pytest.approx(1.0, abs=1e-12)
    fixed = 1 - net.distance
    c, gaps = 0.2, []
    for _ in range(500):
        c = net.correlation(c)
        gaps.append(abs(c - fixed))
    assert c == pytest.approx(fixed, abs=1e-9)
    # The gap falls by the factor that the correlation length says.
    late = next(i for i, gap in enumerate(gaps) if gap < 1e-5)
    factor = gaps[late + 1] / gaps[late]
    assert factor == pytest.approx(math.exp(-1 / net.correlation_length), rel=1e-3)


def test_slope_is_the_derivative_of_the_map():
    net = TanhMeanField(2.5, 0.05)
    difference = (net.correlation(0.4 + 1e-5) - net.correlation(0.4 - 1e-5)) / 2e-5
    assert net.slope(0.4) == pytest.approx(difference, rel=1e-6)


def test_order_turns_into_chaos_where_the_slope_at_one_is_one():
    """At the edge of chaos the length diverges, from both sides."""
    nets = [TanhMeanField(w, 0.05) for w in (1.5, 1.7, 1.75, 1.77, 1.8, 2.0)]
    lengths = [net.correlation_length for net in nets]
    slopes = [net.slope(1.0) for net in nets]
    assert slopes == sorted(slopes)
    assert [net.distance > 0 for net in nets] == [slope > 1 for slope in slopes]
    longest = int(np.argmin(np.abs(np.array(slopes) - 1)))
    assert int(np.argmax(lengths)) == longest
    assert lengths[longest] > 300


def test_variances_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        TanhMeanField(1.0, 0.0)


def test_slope_ratio_of_tanh():
    """Small signals: slopes of 1. By hand to first order: slope^2 is 1 - 2 z^2, so 1 + 8 q^2."""
    assert tanh_slope_ratio(1e-9) == pytest.approx(1.0, abs=1e-12)
    assert (tanh_slope_ratio(1e-3) - 1) / 8e-6 == pytest.approx(1, rel=0.02)


def test_relu_norm_length():
    assert relu_norm_length(2.0) == math.inf
    assert relu_norm_length(1.0) == pytest.approx(1 / math.log(2))
    assert relu_norm_length(4.0) == pytest.approx(1 / math.log(2))


def test_relu_correlation_approaches_one_as_a_power():
    c = np.array(0.0)
    for _ in range(3_000):
        c = relu_correlation(c)
    assert 1 - c == pytest.approx(relu_distance(3_000), rel=0.02)
