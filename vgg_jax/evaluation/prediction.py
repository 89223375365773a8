"""What a network sees in a few images."""

from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple

import numpy as np

from vgg_jax.data.preprocessing import Encoded, check_several
from vgg_jax.errors import UserError
from vgg_jax.evaluation.probabilities import class_probabilities
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights

BATCH = 16


class Prediction(NamedTuple):
    """A class and its probability."""

    label: int
    name: str
    probability: float


def predict(
    weights: Weights | str | PathLike[str],
    images: Sequence[Encoded | np.ndarray] | np.ndarray,
    *,
    top: int = 5,
) -> list[list[Prediction]]:
    """Classifies images by the centre crop that the weights are made for.

    Args:
      weights: from `load_weights`, or the path of a weights file.
      images: paths, or the contents of image files. Grey becomes RGB, alpha is dropped, CMYK is
        converted and the EXIF orientation applied. Or arrays, uint8 (N, H, W, 3) RGB or (N, H, W)
        grey, which are resized and cropped as files are.
      top: number of classes to name.

    Returns:
      For each image its `top` most probable classes, most probable first.

    Raises:
      UserError: weights or an image that cannot be read, by name; or arrays of another kind.
    """
    check_several(images)
    if not isinstance(weights, Weights):
        weights = load_weights(weights)
    found: list[list[Prediction]] = []
    for start in range(0, len(images), BATCH):
        pixels = [weights.preprocessing.load(image) for image in images[start : start + BATCH]]
        found += predict_pixels(weights, pixels, top=top)
    return found


def predict_pixels(
    weights: Weights, pixels: Sequence[np.ndarray], *, top: int = 5
) -> list[list[Prediction]]:
    """Classifies images that are cropped: uint8 (crop, crop, 3) RGB each, as one batch.

    Raises:
      UserError: `top` is below 1.
    """
    if top < 1:
        raise UserError(f"top={top}: name at least one class")
    probabilities = class_probabilities(
        weights.variables,
        np.stack(pixels),
        model=weights.model,
        preprocessing=weights.preprocessing,
    )
    return [
        [
            Prediction(int(index), weights.class_names[index], float(row[index]))
            for index in np.argsort(-row, kind="stable")[:top]
        ]
        for row in np.asarray(probabilities)
    ]
