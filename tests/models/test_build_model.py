from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, config_dict

from configs.base import base
from vgg_jax.errors import UserError
from vgg_jax.models import VGG, build_model


def test_the_base_config_is_the_papers_net_d() -> None:
    model = build_model(base().model, image_size=224)
    assert (model.variant, model.head, model.head_window) == ("D", "imagenet", 7)
    assert model.head_layers == {"fc6": 4096, "fc7": 4096, "fc8": 1000}


def test_what_is_absent_has_the_default() -> None:
    assert build_model({}, image_size=224) == VGG()


def test_placeholders_and_lists_of_a_config() -> None:
    config = ConfigDict({"stages": config_dict.placeholder(tuple), "head_features": [64, 64]})
    model = build_model(config, image_size=64)
    assert model.stages is None
    assert model.head_features == (64, 64)
    assert build_model({"stages": ["3-8", "3-8"]}, image_size=8).head_window == 2


@pytest.mark.parametrize(("size", "window"), [(32, 1), (64, 2), (224, 7), (256, 8)])
def test_the_head_covers_the_training_image(size: int, window: int) -> None:
    model = build_model({"variant": "A"}, image_size=size)
    assert model.head_window == window
    assert model.smallest_image == size


def test_what_the_run_decides() -> None:
    model = build_model(
        {}, image_size=32, compute_dtype="bfloat16", matmul_precision="tensorfloat32"
    )
    assert model.matmul_precision == "tensorfloat32"
    assert np.dtype(model.dtype) == jnp.bfloat16
    assert np.dtype(model.param_dtype) == np.float32


@pytest.mark.parametrize(
    ("config", "kwargs", "message"),
    [
        ({}, {"image_size": 225}, "multiple of 32, e.g. 224 or 256"),
        ({}, {"image_size": 8}, "multiple of 32, e.g. 32 or 64"),
        ({"stages": ("3-8", "3-8")}, {"image_size": 6}, "multiple of 4, e.g. 4 or 8"),
        ({}, {"image_size": 224, "compute_dtype": "float16"}, "unknown compute_dtype 'float16'"),
        (
            {},
            {"image_size": 224, "matmul_precision": "float16"},
            "model.matmul_precision='float16': must be one of bfloat16, float32, tensorfloat32",
        ),
        ({"head_window": 7}, {"image_size": 224}, "unknown key in config.model 'head_window'"),
        ({"widht": 1.0}, {"image_size": 224}, "Did you mean 'width'"),
        ({"variant": "vgg15"}, {"image_size": 224}, "unknown variant 'vgg15'"),
        ({"kernel_init": "xavier"}, {"image_size": 224}, "unknown kernel_init"),
    ],
)
def test_wrong_configs(config: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(config, **kwargs)
