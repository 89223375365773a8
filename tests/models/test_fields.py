"""What a user gets wrong about `VGG`: every field, and images that are too small."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from vgg_jax.errors import UserError
from vgg_jax.models.vgg import VGG


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "vgg17"}, "unknown variant 'vgg17'"),
        ({"stages": ("3_64",)}, "malformed stage '3_64'"),
        ({"stages": ("3-64 x99999",)}, "malformed stage '3-64 x99999'"),
        ({"variant": "plain-99999"}, "unknown variant 'plain-99999'"),
        ({"norm": "layer"}, "model.norm='layer': must be one of batch, none"),
        ({"head": "fc"}, "model.head='fc': must be one of cifar, imagenet, linear"),
        ({"activation": "gelu"}, "model.activation='gelu': must be one of linear, relu"),
        ({"pooling": "avg"}, "model.pooling='avg': must be one of average, max, none"),
        ({"kernel_init": "he"}, "unknown kernel_init 'he'"),
        ({"dropout": 1.0}, r"model.dropout=1.0: must be a finite number at least 0 and below 1"),
        ({"dropout": "0.5"}, r"model.dropout='0.5': must be a finite number"),
        ({"width": 0}, "model.width=0: must be a finite number above 0"),
        ({"norm_group": 0}, "model.norm_group=0: must be a whole number from 1"),
        ({"norm_momentum": 1.5}, "model.norm_momentum=1.5"),
        ({"norm_epsilon": -1.0}, "model.norm_epsilon=-1.0"),
        ({"num_classes": 0}, "model.num_classes=0"),
        ({"head_window": 0}, "model.head_window=0"),
        ({"head_features": (1, 2, 3)}, "must be a tuple of 0 to 2 values"),
        ({"head_features": (0,)}, "0: must be a whole number from 1"),
        ({"remat": "no"}, "model.remat='no': must be true or false"),
        ({"head": "linear", "head_features": (64,)}, "for heads 'imagenet' and 'cifar'"),
    ],
)
def test_a_wrong_field_is_named_at_once(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        VGG(**fields)


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((1, 223, 300, 3), "; for these images set head_window=6"),
        ((1, 300, 32, 3), "; for these images set head_window=1"),
        ((1, 16, 16, 3), ""),
        ((224, 224, 3), ""),
    ],
)
def test_too_small_images_are_told_what_fits(shape: tuple[int, ...], cure: str) -> None:
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(UserError, match=rf"at least 224{cure}(\n|$)"):
        jax.eval_shape(VGG().init, jax.random.key(0), images)
    if cure:
        jax.eval_shape(VGG(head_window=int(cure[-1])).init, jax.random.key(0), images)
