"""Receptive fields of stacks whose gradients are known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.models import VGG
from vgg_jax.models.summary import receptive_field, summarize_model
from vgg_jax.models.variants import resolve_stages
from vgg_jax.probes.receptive_field import (
    expected_profile,
    layer_windows,
    map_spread,
    predicted_magnitude_spread,
    predicted_spread,
    squared_gradient_map,
)

KEY = jax.random.key(0)


def convolved(kernels):
    """Returns a linear network of one channel, (N, H, W, 1) -> the same."""

    def forward(images):
        for kernel in kernels:
            kernel = jnp.asarray(kernel, jnp.float32)[..., None, None]
            dims = ("NHWC", "HWIO", "NHWC")
            images = jax.lax.conv_general_dilated(
                images, kernel, (1, 1), "SAME", dimension_numbers=dims
            )
        return images

    return forward


@pytest.mark.parametrize(("kernel", "layers"), [(3, 12), (5, 6), (7, 4), (7, 1)])
def test_equal_weights_spread_the_gradient_as_predicted(kernel, layers):
    """Luo et al. (2016), section 2.2: a box convolved with itself, whose variances add up."""
    forward = convolved([np.ones((kernel, kernel))] * layers)
    squared = np.asarray(squared_gradient_map(forward, jnp.zeros((2, 41, 41, 1)), KEY))
    expected = predicted_spread([(kernel, 1)] * layers)
    assert expected == pytest.approx(np.sqrt(layers * (kernel**2 - 1) / 12))
    assert map_spread(np.sqrt(squared)) == pytest.approx((expected, expected), rel=1e-4)
    seen = np.flatnonzero(squared.sum(0) > 1e-30)
    if layers == 1:
        assert len(seen) == receptive_field([(kernel, 1)])
        assert (seen.min() + seen.max()) / 2 == 20


def test_the_square_of_a_gaussian_is_narrower_by_the_root_of_two():
    places = np.arange(-30, 31)
    rows, columns = (np.exp(-(places**2) / (2 * sd**2)) for sd in (3.0, 5.0))
    kernel = rows[:, None] * columns
    squared = squared_gradient_map(convolved([kernel]), jnp.zeros((1, 121, 121, 1)), KEY)
    assert map_spread(np.asarray(squared)) == pytest.approx((3 / 2**0.5, 5 / 2**0.5), rel=1e-5)
    assert map_spread(np.sqrt(squared)) == pytest.approx((3, 5), rel=1e-5)


def test_variances_of_two_gaussians_add_up():
    places = np.arange(-20, 21)
    kernels = [
        np.exp(-(places[:, None] ** 2 + places**2) / (2 * deviation**2)) for deviation in (3, 4)
    ]
    squared = squared_gradient_map(convolved(kernels), jnp.zeros((1, 121, 121, 1)), KEY)
    assert map_spread(np.sqrt(squared)) == pytest.approx((5, 5), rel=1e-3)


def test_the_map_is_the_sum_of_the_channels_squares():
    """Signs make the cross terms vanish on average over many examples."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((2, 3)).astype(np.float32)
    shifts = jnp.asarray(rng.standard_normal((5, 5, 2, 3)), jnp.float32)

    def forward(images):
        dims = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, shifts, (1, 1), "SAME", dimension_numbers=dims
        ) + images @ jnp.asarray(matrix)

    squared = np.asarray(squared_gradient_map(forward, jnp.zeros((4000, 9, 9, 2)), KEY))
    taps = np.array(shifts)
    taps[2, 2] += matrix
    expected = np.square(taps).sum((2, 3))
    measured = squared[2:7, 2:7] / squared.sum() * expected.sum()
    np.testing.assert_allclose(measured, expected, rtol=0.15)
    assert squared[:2].sum() == squared[7:].sum() == 0


@pytest.mark.parametrize(("net", "pixels"), [("A", 21.7), ("B", 21.8), ("D", 26.5), ("E", 30.4)])
def test_last_convolution_of_the_papers_nets(net, pixels):
    windows = [w for name, w in layer_windows(resolve_stages(net, None)).items() if "conv" in name]
    assert predicted_spread(windows[-1]) == pytest.approx(pixels, abs=0.05)


def test_strides_and_pools_written_out():
    windows = [(3, 1), (2, 2), (5, 1), (2, 2), (7, 1)]
    variance = 8 / 12 + 1 / 4 + 4 * 24 / 12 + 4 / 4 + 16 * 48 / 12
    assert predicted_spread(windows) == pytest.approx(variance**0.5)
    assert predicted_spread([]) == 0


@pytest.mark.parametrize("net", ["A", "E", "shallow-B"])
def test_the_expected_map_has_the_predicted_spread(net):
    for windows in layer_windows(resolve_stages(net, None)).values():
        profile = expected_profile(windows)
        assert len(profile) == receptive_field(windows)
        assert profile.sum() == pytest.approx(1)
        np.testing.assert_allclose(profile, profile[::-1], atol=1e-12)
        assert map_spread(np.outer(profile, profile))[0] == pytest.approx(predicted_spread(windows))


def test_the_magnitude_of_a_box_is_as_wide_and_of_many_wider_by_the_root_of_two():
    ratios = [
        predicted_magnitude_spread(windows) / predicted_spread(windows)
        for windows in ([(7, 1)], [(3, 1)] * 2, [(3, 1)] * 100)
    ]
    triangle = np.sqrt([1, 2, 3, 2, 1])
    variance = (triangle * np.arange(-2, 3) ** 2).sum() / triangle.sum()
    assert ratios == pytest.approx([1, (variance / (4 / 3)) ** 0.5, 2**0.5], rel=1e-2)
    assert ratios[1] == pytest.approx((variance / (4 / 3)) ** 0.5)


@pytest.mark.parametrize("net", ["A", "D", "shallow-B"])
def test_windows_give_the_fields_of_the_summary(net):
    model = VGG(variant=net)
    fields = {layer.name: layer.receptive_field for layer in summarize_model(model, 224).layers}
    windows = layer_windows(model.conv_stages)
    assert list(windows) == [name for name in fields if name[:2] != "fc"]
    assert {name: receptive_field(w) for name, w in windows.items()} == {
        name: field for name, field in fields.items() if name in windows
    }


@pytest.mark.parametrize(("pooling", "tolerance"), [("average", 0.04), ("max", 0.1)])
def test_random_networks_spread_as_predicted(pooling, tolerance):
    model = VGG(stages=("3-32 x2", "3-32"), activation="relu", pooling=pooling)
    windows = layer_windows(model.conv_stages)["conv2_1"]
    images = jax.random.normal(KEY, (16, 24, 24, 3))

    @jax.jit
    def measure(seed):
        variables = model.init(jax.random.key(seed), images, conv_only=True)

        def forward(images):
            return model.apply(variables, images, conv_only=True)[1]["conv2_1"]

        return squared_gradient_map(forward, images, KEY)

    maps = [np.asarray(measure(seed)) for seed in range(4)]
    spread = np.mean([map_spread(weights) for weights in maps])
    assert spread == pytest.approx(predicted_spread(windows), rel=tolerance)
    rows = np.flatnonzero(np.sum(maps, (0, 2)))
    assert len(rows) == receptive_field(windows)


def test_gradients_beyond_float32_squares_and_none():
    def forward(images):
        return 1e-30 * images

    squared = squared_gradient_map(forward, jnp.zeros((1, 5, 5, 1)), KEY)
    assert float(squared[2, 2]) == 1
    nothing = squared_gradient_map(lambda images: 0 * images, jnp.zeros((1, 5, 5, 1)), KEY)
    with pytest.raises(ValueError, match="no width"):
        map_spread(np.asarray(nothing))
    with pytest.raises(ValueError, match="no width"):
        map_spread(np.full((3, 3), np.nan))
