"""Attribution maps, against closed forms and finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.evaluation.nets import tiny_weights
from tests.models.nets import forward
from vgg_jax.errors import UserError
from vgg_jax.features.attribution import (
    METHODS,
    grad_cam,
    gradient_maps,
    occlusion,
    occlusion_map,
    probabilities,
)

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (2, 8, 8, 3), np.uint8)
LABELS = np.array([1, 2])


def maps(weights, methods, **fields):
    model = weights.model.clone(**fields)
    return gradient_maps(
        weights.variables,
        PHOTOS,
        LABELS,
        model=model,
        preprocessing=weights.preprocessing,
        methods=methods,
    )


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.fixture(scope="module")
def positive():
    """All weights positive, and inputs too: every ReLU is open, every gradient is positive."""
    weights = tiny_weights()
    preprocessing = dataclasses.replace(weights.preprocessing, mean=(-1.0, -2.0, -3.0))
    variables = jax.tree.map(lambda leaf: jnp.abs(leaf) + 0.01, weights.variables)
    return dataclasses.replace(weights, preprocessing=preprocessing, variables=variables)


def test_saliency_is_the_change_of_the_score(weights):
    # Without the kinks of ReLU and maximum, which finite differences step over.
    smooth = {"activation": "tanh", "pooling": "average"}
    found = maps(weights, ("saliency",), **smooth)
    assert list(found) == ["saliency"]
    assert found["saliency"].shape == (2, 8, 8)
    model = weights.model.clone(**smooth)

    def score(pixels):
        inputs = weights.preprocessing.normalize(pixels)
        return float(forward(model, weights.variables, inputs)[0][0, LABELS[1]])

    pixels = PHOTOS[1:].astype(np.float32)
    step = 0.5
    for row, column in [(0, 0), (3, 5)]:
        changes = []
        for channel in range(3):
            higher, lower = pixels.copy(), pixels.copy()
            higher[0, row, column, channel] += step
            lower[0, row, column, channel] -= step
            changes.append(abs(score(higher) - score(lower)) / (2 * step))
        here = found["saliency"][1, row, column]
        assert here == pytest.approx(max(changes), rel=0.01, abs=1e-6)


def test_grad_cam_of_a_linear_head_is_the_known_weighted_sum(weights):
    """The mean of the map, then a linear head: the gradient is its weight over positions."""
    features = jnp.asarray(RNG.normal(size=(2, 3, 4, 5)), jnp.float32)
    head = jnp.asarray(RNG.normal(size=5), jnp.float32)
    gradient = jax.grad(lambda x: jnp.sum(x.mean((1, 2)) @ head))(features)
    wanted = np.maximum(np.asarray(features) @ np.asarray(head), 0) / 12
    np.testing.assert_allclose(grad_cam(gradient, features), wanted, atol=1e-6)

    found = maps(weights, ("grad_cam",))["grad_cam"]
    inputs = weights.preprocessing.normalize(PHOTOS)
    _, endpoints = forward(weights.model, weights.variables, inputs)
    for index, label in enumerate(LABELS):
        last = np.asarray(endpoints["relu2_2"][index])
        kernel = np.asarray(weights.variables["params"]["fc8"]["kernel"])[..., label]
        # Each pooled position hands its weight to one of its four: the mean over them is kept.
        importance = kernel.sum((0, 1)) / last[..., 0].size
        np.testing.assert_allclose(found[index], np.maximum(last @ importance, 0), atol=1e-5)


def test_guided_backpropagation_is_the_gradient_where_all_is_positive(positive, weights):
    found = maps(positive, ("saliency", "guided"))
    assert np.all(np.asarray(found["saliency"]) > 0)
    np.testing.assert_allclose(found["guided"], found["saliency"], rtol=1e-5)
    found = maps(weights, ("guided", "saliency"))
    assert list(found) == ["guided", "saliency"]
    assert np.abs(found["guided"] - found["saliency"]).max() > 0.01 * found["saliency"].max()


def test_guided_backpropagation_leaves_the_network_as_it_is(weights):
    before = maps(weights, ("saliency",))["saliency"]
    maps(weights, ("guided",))
    np.testing.assert_array_equal(maps(weights, ("saliency",))["saliency"], before)
    inputs = weights.preprocessing.normalize(PHOTOS)
    plain, guided = (
        forward(weights.model.clone(guided=guided), weights.variables, inputs)[0]
        for guided in (False, True)
    )
    np.testing.assert_allclose(guided, plain, rtol=1e-6)
    with pytest.raises(UserError, match="guided gradients are those of ReLU, not of tanh"):
        maps(weights, ("guided",), activation="tanh")


def test_occlusion_of_a_score_of_one_pixel():
    """The score is one pixel's red: it falls where the square covers that pixel."""
    image = np.full((6, 7, 3), 100, np.uint8)
    image[4, 3, 0] = 200
    calls = []

    def score(images):
        calls.append(images.shape)
        return images[:, 4, 3, 0].astype(np.float32)

    options = {"fill": np.array([50, 0, 0]), "patch": 2, "stride": 2, "batch_size": 4}
    fall = occlusion(score, image, **options)
    wanted = np.zeros((3, 3))
    wanted[2, 1] = 150
    np.testing.assert_array_equal(fall, wanted)
    assert calls == [(4, 6, 7, 3)] * 3
    assert image[4, 3, 0] == 200
    # A score that does not see the image is the same under every square.
    assert not occlusion(lambda images: np.ones(len(images)), image, **options).any()


def test_occlusion_of_a_network(weights):
    named = {"model": weights.model, "preprocessing": weights.preprocessing}
    found = occlusion_map(weights.variables, PHOTOS[0], 1, **named)
    assert found.shape == (8, 8)  # squares of one pixel
    covered = PHOTOS[:1].copy()
    covered[0, 2, 5] = covered[0].mean((0, 1)).astype(np.uint8)
    before, after = (
        probabilities(weights.variables, each, **named)[0, 1] for each in (PHOTOS[:1], covered)
    )
    assert found[2, 5] == pytest.approx(float(before - after), abs=1e-6)
    assert METHODS[-1] == "occlusion"
