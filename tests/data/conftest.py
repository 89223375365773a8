"""Small data sets of every kind, made on the spot."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image


@pytest.fixture
def data_config() -> Callable[..., ConfigDict]:
    """Returns a function from overrides to a `config.data`."""

    def make(**overrides: object) -> ConfigDict:
        config = ConfigDict(
            {
                "source": "digits",
                "name": "digits",
                "dir": None,
                "train_split": "train",
                "eval_split": "test",
                "image_size": 8,
                "batch_size": 4,
                "workers": 0,
                "mean": (0.0, 0.0, 0.0),
                "std": (1.0, 1.0, 1.0),
                "augment": "none",
                "pad": 4,
                "scale": (16, 16),
                "channel_order": "RGB",
                "flip": False,
                "cutout": 0,
                "color_shift": 0.0,
                "color_pca": "imagenet",
                "eval_resize": 8,
            },
            convert_dict=False,
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
