"""Networks of the sizes in `files.py`, images for them, and what they make of these."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tests.weights import files
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.models import VGG, build_model
from vgg_jax.weights.store import Weights

IMAGES = np.random.default_rng(2).integers(0, 256, (2, files.SIDE, files.SIDE, 3), np.uint8)
TORCH_MEAN, TORCH_STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BGR_MEAN = np.array([103.939, 116.779, 123.68])
BGR = IMAGES[..., ::-1] - BGR_MEAN
RGB = IMAGES - BGR_MEAN[::-1]
TORCH_IMAGES = ((IMAGES / 255 - TORCH_MEAN) / TORCH_STD).transpose(0, 3, 1, 2)


@functools.cache
def network(variant: str, norm: str = "none") -> VGG:
    return build_model(files.model_fields(variant, norm), image_size=files.SIDE)


def logits(weights: Weights) -> np.ndarray:
    variables, images = weights.variables, jnp.asarray(IMAGES)
    return np.asarray(_logits(variables, images, weights.model, weights.preprocessing))


@functools.partial(jax.jit, static_argnums=(2, 3))
def _logits(variables: Any, images: jax.Array, model: VGG, preprocessing: Preprocessing) -> Any:
    return model.apply(variables, preprocessing.normalize(images))[0]


def assert_close(actual: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(actual, wanted, atol=2e-5 * np.abs(wanted).max())
