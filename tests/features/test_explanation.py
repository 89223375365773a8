"""Saliency and Grad-CAM, against finite differences and the formula."""

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import replaced, tiny_weights
from tests.models.nets import forward
from vgg_jax import explain, predict
from vgg_jax.errors import UserError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("explanation") / "photo.png"
    Image.fromarray(RNG.integers(0, 256, (10, 12, 3), np.uint8)).save(path)
    return path


def test_saliency_is_the_change_of_the_score(weights, photo):
    # Without the kinks of ReLU and maximum, which finite differences step over.
    weights = replaced(weights, model=weights.model.clone(activation="tanh", pooling="average"))
    found = explain(weights, photo, label=1)
    assert found.saliency.shape == (8, 8)
    np.testing.assert_array_equal(found.photo, weights.preprocessing.load(photo))

    def score(pixels):
        logits, _ = forward(
            weights.model, weights.variables, weights.preprocessing.normalize(pixels)
        )
        return float(logits[0, 1])

    pixels = found.photo[None].astype(np.float32)
    step = 0.5
    for row, column in [(0, 0), (3, 5), (7, 2)]:
        changes = []
        for channel in range(3):
            higher, lower = pixels.copy(), pixels.copy()
            higher[0, row, column, channel] += step
            lower[0, row, column, channel] -= step
            changes.append(abs(score(higher) - score(lower)) / (2 * step))
        assert found.saliency[row, column] == pytest.approx(max(changes), rel=0.01, abs=1e-6)


def test_grad_cam_by_its_formula(weights, photo):
    """Pooling and a linear head follow the last convolution, so the gradient is known."""
    found = explain(weights, photo)
    inputs = weights.preprocessing.normalize(found.photo[None])
    _, endpoints = forward(weights.model, weights.variables, inputs)
    maps = np.asarray(endpoints["relu2_2"][0])
    kernel = np.asarray(weights.variables["params"]["fc8"]["kernel"])[..., found.label]
    # Each pooled position hands its weight to one of its four: the mean over positions is kept.
    importance = kernel.sum((0, 1)) / maps[..., 0].size
    np.testing.assert_allclose(found.grad_cam, np.maximum(maps @ importance, 0), atol=1e-5)


def test_the_most_probable_class_is_explained_by_default(weights, photo):
    found = explain(weights, photo)
    ((best,),) = predict(weights, [photo], top=1)
    assert (found.label, found.name) == best[:2]
    assert found.probability == pytest.approx(best.probability, abs=1e-5)
    with pytest.raises(UserError, match="label=3: give one of the 3 classes"):
        explain(weights, photo, label=3)
