"""A net that compiles in a moment, and batches for it."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.base import base
from vgg_jax.config import load_config
from vgg_jax.data.augment import make_train_augment
from vgg_jax.models import VGG

CLASSES = 4
SIZE = 8


SMALL_RUN = [
    "--config.model.stages=('3-4','3-8')",
    "--config.model.head=linear",
    "--config.data.image_size=8",
    "--config.data.batch_size=8",
    "--config.eval.batch_size=360",
    "--config.optimizer.schedule=constant",
]


@pytest.fixture
def small_run(pytestconfig, monkeypatch):
    """Returns a function from overrides to the config of a run of a small net on digits."""
    monkeypatch.chdir(pytestconfig.rootpath)

    def make(*overrides: str, spec: str = "configs/vgg11.py:digits,bn") -> ConfigDict:
        return load_config(spec, [*SMALL_RUN, *overrides])

    return make


@pytest.fixture(scope="session")
def tiny_vgg():
    def make(**fields) -> VGG:
        defaults = {
            "stages": ("3-4 x2", "3-8"),
            "num_classes": CLASSES,
            "head": "linear",
            "head_window": SIZE // 4,
            "kernel_init": "he_fan_in",
        }
        return VGG(**defaults | fields)

    return make


@pytest.fixture(scope="session")
def batch_of():
    def make(count: int, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {
            "image": rng.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8),
            "label": rng.integers(0, CLASSES, count).astype(np.int32),
            "mask": np.ones(count, bool),
        }

    return make


@pytest.fixture(scope="session")
def augment():
    """One function for all tests, so that it is traced once, and steps with it can be shared."""
    data = base().data
    data.image_size = SIZE
    data.augment = "pad_crop"
    data.pad = 1
    data.mean, data.std = (127.0,) * 3, (64.0,) * 3
    data.cutout = 0
    data.color_shift = 0.0
    return jax.jit(make_train_augment(data))


@pytest.fixture
def optimizer_config():
    optimizer = base().optimizer
    optimizer.schedule = "constant"
    return optimizer
