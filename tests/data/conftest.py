"""Small data sets of every kind, made on the spot."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs.base import base
from vgg_jax.data.arrays import ArraySource


@pytest.fixture
def data_config() -> Callable[..., ConfigDict]:
    """Returns a function from overrides to a `config.data`."""

    def make(**overrides: object) -> ConfigDict:
        config = base().data
        config.update(
            source="digits",
            name="digits",
            eval_split="test",
            image_size=8,
            batch_size=4,
            workers=0,
            mean=(0.0, 0.0, 0.0),
            augment="none",
            scale=(16, 16),
            flip=False,
            color_shift=0.0,
            eval_resize=8,
        )
        with config.ignore_type():
            config.update(overrides)
        return config

    return make


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """A folder of random JPEGs of several sizes: train/{cat,dog,eel} 4 each, val/{cat,eel} 3."""
    rng = np.random.default_rng(0)
    for split, classes, count in (("train", ("cat", "dog", "eel"), 4), ("val", ("cat", "eel"), 3)):
        for name in classes:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(20, 40, 2)
                pixels = rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8)
                Image.fromarray(pixels).resize((width, height)).save(folder / f"{number}.jpg")
    return tmp_path


def encode(image: np.ndarray, kind: str = "PNG") -> bytes:
    """Returns the file contents of an image."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Cuts the central `size` x `size` pixels out of an image (H, W, 3) at least that large."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


def numbered(count, size=8):
    """A source whose example i is an image of value i with label i."""
    images = np.broadcast_to(
        np.arange(count, dtype=np.uint8)[:, None, None, None], (count, size, size, 3)
    )
    return ArraySource(images, np.arange(count, dtype=np.int32), tuple(map(str, range(count))))


def assert_same(left, right):
    assert left.keys() == right.keys() == {"image", "label", "mask"}
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])
        assert left[name].dtype == right[name].dtype
