"""Endpoints by name, as arrays."""

import numpy as np
import pytest

from tests.evaluation.nets import tiny_weights
from tests.models.nets import forward
from vgg_jax import extract_features
from vgg_jax.errors import UserError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 12, 9, 3), np.uint8)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


def test_arrays_are_the_model_s_endpoints_whatever_the_batch(weights):
    names = ("pool2", "relu1_2", "fc8")
    _, wanted = forward(weights.model, weights.variables, weights.preprocessing.normalize(PIXELS))
    for batch_size in (2, 16):
        found = extract_features(weights, PIXELS, names, batch_size=batch_size)
        assert list(found) == list(names)
        for name in names:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-4)
            assert found[name].dtype == np.float32


def test_convolutional_endpoints_at_sizes_below_the_head(weights):
    whole = extract_features(weights, PIXELS, ["relu2_2"])["relu2_2"]
    assert whole.shape == (5, 6, 4, 8)
    small = PIXELS[:, :4, :5]
    assert extract_features(weights, small, ["pool2", "conv1_1"])["pool2"].shape == (5, 1, 1, 8)
    with pytest.raises(UserError, match="of at least 8"):
        extract_features(weights, small, ["pool2", "fc8"])
    with pytest.raises(UserError, match="of at least 4"):
        extract_features(weights, small[:, :3], ["pool2"])


@pytest.mark.parametrize(
    ("images", "endpoints", "message"),
    [
        (PIXELS, ["relu1_3"], "unknown endpoint 'relu1_3'. Did you mean"),
        (PIXELS, ["block3_pool"], "a name of Keras's: type pool3"),
        (PIXELS, ["block1_conv2"], "type relu1_2"),
        (PIXELS.astype(np.float32), ["pool1"], "give uint8"),
        (PIXELS[0], ["pool1"], "give uint8"),
        ([], ["pool1"], "0 images"),
        (PIXELS, [], "0 endpoints"),
        (["absent.jpg"], ["pool1"], "absent.jpg"),
        ("photo.jpg", ["pool1"], "'photo.jpg' is one image: give a list"),
    ],
)
def test_mistakes(weights, images, endpoints, message):
    with pytest.raises(UserError, match=message):
        extract_features(weights, images, endpoints)
