"""The VGG family: `build_model` makes a network from the `model` part of a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vgg_jax.errors import UserError, unknown_name
from vgg_jax.models.variants import resolve_stages
from vgg_jax.models.vgg import VGG

__all__ = ["VGG", "build_model"]

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
# Not in `config.model`: they follow from the image size and from how the run computes
# and what it freezes; or they are for explanations, not for training.
_DERIVED = {
    "guided",
    "head_window",
    "norm_frozen",
    "axis_name",
    "head_sharding",
    "matmul_precision",
    "dtype",
    "param_dtype",
    "parent",
    "name",
}
MODEL_KEYS = tuple(f.name for f in dataclasses.fields(VGG) if f.name not in _DERIVED)


def build_model(
    model_config: Mapping[str, Any],
    *,
    image_size: int,
    compute_dtype: str = "float32",
    matmul_precision: str = VGG.matmul_precision,
) -> VGG:
    """Builds the network of a config, checking every name in it at once.

    Args:
      model_config: the fields of `VGG` named in `MODEL_KEYS`; what is absent has VGG's default, as
        has `num_classes` where it is None: as many as the data has, which is not open here.
      image_size: side in pixels of the training images; the head covers their whole last map.
      compute_dtype: "float32" or "bfloat16"; parameters are float32 in both.
      matmul_precision: see `VGG`.

    Raises:
      UserError: an unknown key or name, a number out of range, or an image size that the stages
        do not halve evenly.
    """
    for key in model_config:
        if key not in MODEL_KEYS:
            raise unknown_name("key in config.model", key, MODEL_KEYS)
    if compute_dtype not in COMPUTE_DTYPES:
        raise unknown_name("compute_dtype", compute_dtype, COMPUTE_DTYPES)
    fields = dict(model_config)
    if fields.get("num_classes") is None:
        fields.pop("num_classes", None)
    for key in ("stages", "head_features"):
        if isinstance(fields.get(key), list):
            fields[key] = tuple(fields[key])

    stride = 2 ** len(resolve_stages(fields.get("variant", VGG.variant), fields.get("stages")))
    if image_size < stride or image_size % stride:
        lower = max(stride, image_size // stride * stride)
        raise UserError(
            f"image size {image_size} does not fit the head: {stride} pixels make one position of "
            f"the last map.\nUse a multiple of {stride}, e.g. {lower} or {lower + stride}"
        )
    return VGG(
        **fields,
        head_window=image_size // stride,
        matmul_precision=matmul_precision,
        dtype=COMPUTE_DTYPES[compute_dtype],
    )
