"""Two small TFDS data sets whose images are already encoded, so that no TensorFlow is needed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tests.data.conftest import encode


class _Toy(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    SHAPE: tuple[int | None, int | None, int] = (6, 6, 3)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=self.SHAPE, encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
            }
        )
        return self.dataset_info_from_configs(features=features)

    def _split_generators(self, manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples(7), "test": self._generate_examples(3)}

    def _generate_examples(self, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(count):
            yield number, {"image": encode(toy_image(self.SHAPE, number)), "label": number % 3}


class ToyFixedSize(_Toy):
    """Images of one size, which are held in memory."""


class ToyMixedSizes(_Toy):
    """Images of several sizes, which are decoded one at a time."""

    SHAPE = (None, None, 3)


def toy_image(shape: tuple[int | None, int | None, int], number: int) -> np.ndarray:
    """Returns image `number` of a toy data set; its first pixel holds the number."""
    height, width, _ = shape
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (height or 8 + number, width or 12, 3), np.uint8)
    image[0, 0] = number
    return image
