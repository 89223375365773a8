"""Weights by the name of a file or an address on the Hub, in our format or in timm's."""

import dataclasses
import math
from os import PathLike
from pathlib import Path
from typing import Any

import jax

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError, quoted
from vgg_jax.json_files import read_object
from vgg_jax.models import VGG, build_model
from vgg_jax.models.variants import network_fields
from vgg_jax.weights.hub import CONFIG_FILE, beside, commit_of, is_address, local_path
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.store import FORMAT, Weights, read_description, read_metadata, read_weights


def load_weights(path: str | PathLike[str], *, allow_non_finite: bool = False) -> Weights:
    """Reads a weights file, or weights of the Hugging Face Hub.

        load_weights("vgg16.safetensors")
        load_weights("hf://timm/vgg16.tv_in1k@REVISION")

    Args:
      path: of a file that `save_weights` or `python -m vgg_jax.convert` wrote; or the address of
        such a file, or of a VGG of timm, see `vgg_jax.weights.hub`.
      allow_non_finite: takes NaN and infinity too, to look at weights that diverged.

    Returns:
      The network as `model`, a Flax module, its `variables`, which `model.apply` takes, the
      `preprocessing` of its images and its `class_names`.

    Raises:
      UserError: the file is missing, truncated, of another kind, its tensors do not fit the
        network that it describes, or they have values that are not finite; or what `local_path`
        raises.
    """
    found = local_path(path)
    if is_address(path) and not _is_ours(found):
        return _of_timm(str(path), found)
    return read_weights(found, allow_non_finite=allow_non_finite)


def describe_weights(path: str | PathLike[str]) -> Weights:
    """Reads weights but for their values: `variables` holds `jax.ShapeDtypeStruct`s.

    Raises:
      UserError: as `load_weights`.
    """
    found = local_path(path)
    if is_address(path) and not _is_ours(found):
        weights = _of_timm(str(path), found)
        shapes = jax.eval_shape(lambda: weights.variables)
        return dataclasses.replace(weights, variables=shapes)
    return read_description(found)


def _is_ours(path: str | PathLike[str]) -> bool:
    return read_metadata(path).get("format") == FORMAT


def _of_timm(path: str, found: str | PathLike[str]) -> Weights:
    """Reads weights that timm published, with the network and preprocessing of their config."""
    config_path = Path(local_path(beside(path, CONFIG_FILE)))
    config = read_object(config_path)
    try:
        model, preprocessing = _network(config)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = quoted(str(error))
        raise UserError(f"{path}: {CONFIG_FILE} is none of timm's for a VGG ({reason})") from error
    weights = import_weights(found, "timm", model)
    origin = weights.origin | {"hub": path, "commit": commit_of(found, path)}
    return dataclasses.replace(weights, preprocessing=preprocessing, origin=origin)


def _network(config: dict[str, Any]) -> tuple[VGG, Preprocessing]:
    """Returns the network and the preprocessing that timm's `config.json` describes."""
    settings = config["pretrained_cfg"]
    if settings["interpolation"] != "bilinear":
        raise ValueError(f"interpolation is {settings['interpolation']}; ours is bilinear")
    side = int(settings["input_size"][1])
    fields = network_fields(config["architecture"]) | {"num_classes": config["num_classes"]}
    preprocessing = Preprocessing(
        resize=math.floor(side / settings["crop_pct"]),
        crop=side,
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
        scale=1 / 255,
    )
    return build_model(fields, image_size=side), preprocessing
