"""Explanations of a photo: its maps, and the most probable class."""

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import tiny_weights
from vgg_jax import explain, predict
from vgg_jax.errors import UserError
from vgg_jax.features.attribution import METHODS, gradient_maps, occlusion_map

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("explanation") / "photo.png"
    Image.fromarray(RNG.integers(0, 256, (10, 12, 3), np.uint8)).save(path)
    return path


def test_maps_are_those_of_the_methods(weights, photo):
    methods = METHODS[::-1]
    found = explain(weights, photo, label=1, methods=methods)
    assert tuple(found.maps) == methods
    np.testing.assert_array_equal(found.photo, weights.preprocessing.load(photo))
    named = {"model": weights.model, "preprocessing": weights.preprocessing}
    wanted = gradient_maps(weights.variables, found.photo[None], np.array([1]), **named)
    for method, values in wanted.items():
        np.testing.assert_allclose(found.maps[method], values[0], rtol=1e-4, atol=1e-6)
    fall = occlusion_map(weights.variables, found.photo, 1, **named)
    np.testing.assert_allclose(found.maps["occlusion"], fall)
    panels = list(found.panels().values())
    np.testing.assert_array_equal(panels[0], found.photo)
    assert [panel.shape for panel in panels] == [(8, 8, 3)] * 5
    assert found.picture().size == (5 * 8 + 4 * 4, 8 + 1)


def test_the_most_probable_class_is_explained_by_default(weights, photo):
    found = explain(weights, photo)
    ((best,),) = predict(weights, [photo], top=1)
    assert (found.label, found.name) == best[:2]
    assert found.probability == pytest.approx(best.probability, abs=1e-5)
    assert list(found.maps) == ["saliency", "grad_cam"]


def test_unknown_names(weights, photo):
    with pytest.raises(UserError, match="label=3: give one of the 3 classes"):
        explain(weights, photo, label=3)
    with pytest.raises(UserError, match=r"unknown method 'gradcam'.* Did you mean 'grad_cam'"):
        explain(weights, photo, methods=["gradcam"])
