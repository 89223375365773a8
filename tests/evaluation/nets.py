"""Tiny weights, and labelled images of many sizes."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from PIL import Image

from tests.models.nets import SMALL_SIZE, he_start, random_images, small_vgg
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.data.source import Source
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights

NAMES = ("ant", "bee", "cat")
SIZES = ((8, 8), (9, 14), (20, 16), (8, 23), (30, 30), (12, 12), (8, 8), (16, 28), (21, 8))


def tiny_weights(seed: int = 0) -> Weights:
    """Crop 8 of a shortest side of 10; BGR, so that a forgotten order shows."""
    model = small_vgg()
    variables = he_start(model, random_images(1), seed)
    preprocessing = Preprocessing(
        10, SMALL_SIZE, (110.0, 120.0, 130.0), (50.0,) * 3, channel_order="BGR"
    )
    return Weights(model, {"batch_stats": {}, **variables}, preprocessing, NAMES)


class Pictures(Source):
    """Random images of the sizes in SIZES, classes in turn."""

    class_names = NAMES

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._images = [
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in SIZES
        ]
        self.labels = np.arange(len(SIZES), dtype=np.int32) % len(NAMES)

    def __len__(self) -> int:
        return len(self._images)

    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        return self._images[index], int(self.labels[index])


@functools.cache
def _score_map(model: VGG) -> Callable[..., jax.Array]:
    return jax.jit(lambda variables, images: model.apply(variables, images)[1]["fc8"])


def probabilities_one_by_one(weights: Weights, view: np.ndarray, *, flip: bool) -> np.ndarray:
    """Straight from the definition, one view (h, w, 3) at a time."""
    mean = np.array(weights.preprocessing.mean)
    inputs = ((view[:, :, ::-1].astype(np.float64) - mean) / 50).astype(np.float32)
    views = [inputs, inputs[:, ::-1]] if flip else [inputs]
    score_map = _score_map(weights.model)
    scores = [np.asarray(score_map(weights.variables, view[None])) for view in views]
    logits = np.stack([score.mean((0, 1, 2)) for score in scores]).astype(np.float64)
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return (exponentials / exponentials.sum(1, keepdims=True)).mean(0)


def replaced(weights: Weights, **fields) -> Weights:
    return dataclasses.replace(weights, **fields)
