"""Weights with all that is needed to use them, in one `.safetensors` file.

Tensors carry the parameters' own names, `conv3_2/kernel` (HWIO), `fc6/kernel` (window, window, in,
out: no flatten order is left), `bn3_2/mean`, in float32. The metadata, each but the first as JSON:

    format            "vgg_jax 1"
    model             the fields of `VGG`: variant, norm and its epsilon, head, dropout, ...
    image_size        side in pixels of the images that the head covers whole
    compute_dtype     "float32" or "bfloat16"
    matmul_precision  "float32" (also if it is absent), "tensorfloat32" or "bfloat16"
    preprocessing     resize, crop, channel_order, mean, std, scale (antialiased bilinear resize)
    class_names       one per class, in the order of the logits
    origin            where the tensors came from

The place of dropout is the head's (`vgg_jax.models.vgg.HEADS`). Reading runs no code of the file.
"""

import contextlib
import dataclasses
import json
from collections.abc import Generator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError, quoted
from vgg_jax.json_files import parse_json
from vgg_jax.models import MODEL_KEYS, VGG, build_model
from vgg_jax.models.variants import list_models

FORMAT = "vgg_jax 1"
SUFFIX = ".safetensors"
STATISTICS = ("mean", "var")  # the leaves of batch_stats; all others are parameters


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained network.

    Attributes:
      model: the network; `model.apply(variables, preprocessing.normalize(images))` classifies.
      variables: {"params", "batch_stats"}, float32 arrays.
      preprocessing: how an image becomes its input.
      class_names: one per class, in the order of the logits.
      origin: where the tensors came from, e.g. {"layout": "keras", "file": "vgg19.h5"}.
    """

    model: VGG
    variables: dict[str, Any]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)


def network_tensors(model: VGG) -> dict[str, tuple[int, ...]]:
    """Returns name and shape of every tensor of a network: {"conv1_1/kernel": (3, 3, 3, 64), ...}.

    Parameters and statistics, input to output.
    """
    side = model.smallest_image
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    shapes = flat_tensors(jax.eval_shape(model.init, jax.random.key(0), images))
    order = {layer: index for index, layer in enumerate(model.layer_names)}

    def place(name: str) -> tuple[int, bool]:
        layer = name.split("/")[0]
        return order[layer.replace("bn", "conv")], layer.startswith("bn")

    return {name: shapes[name].shape for name in sorted(shapes, key=place)}


def flat_tensors(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the leaves of {"params", "batch_stats"} by "layer/leaf"."""
    params = traverse_util.flatten_dict(variables["params"], sep="/")
    return params | traverse_util.flatten_dict(variables.get("batch_stats", {}), sep="/")


def nested_variables(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flat_tensors`."""
    nested: dict[str, dict[str, Any]] = {"params": {}, "batch_stats": {}}
    for name, tensor in tensors.items():
        collection = "batch_stats" if name.split("/")[1] in STATISTICS else "params"
        nested[collection][name] = tensor
    return {key: traverse_util.unflatten_dict(flat, sep="/") for key, flat in nested.items()}


def save_weights(path: str | PathLike[str], weights: Weights) -> None:
    """Writes a weights file; a reader never sees half of one.

    Args:
      path: of the file, such as "net.safetensors".
      weights: a network with its variables, from `fit`, `load_weights` or `import_weights`.

    Raises:
      UserError: the file cannot be written.
    """
    model = weights.model
    metadata = {
        "model": {key: getattr(model, key) for key in MODEL_KEYS},
        "image_size": model.smallest_image,
        "compute_dtype": jnp.dtype(model.dtype).name,
        "matmul_precision": model.matmul_precision,
        "preprocessing": dataclasses.asdict(weights.preprocessing),
        "class_names": weights.class_names,
        "origin": weights.origin,
    }
    tensors = {name: np.asarray(leaf) for name, leaf in flat_tensors(weights.variables).items()}
    write_safetensors(
        path, tensors, {"format": FORMAT} | {k: json.dumps(v) for k, v in metadata.items()}
    )


def write_safetensors(
    path: str | PathLike[str], tensors: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Writes a `.safetensors` file, complete or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    partial = Path(f"{path}.partial")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        safetensors.numpy.save_file(tensors, partial, metadata)
        partial.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(f"cannot write {path}: {error}; give another path") from error


def read_safetensors(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors of a `.safetensors` file by name, and its metadata.

    Raises:
      UserError: the file is missing, truncated or of another kind.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in sorted(file.keys())}, file.metadata() or {}


def read_metadata(path: str | PathLike[str]) -> dict[str, str]:
    """Returns the metadata of a `.safetensors` file; raises as `read_safetensors` does."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: str | PathLike[str]) -> Generator[Any]:
    """Opens a `.safetensors` file; what goes wrong while it is read is for the user to fix."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"no weights file {path}{_instead(path)}") from error
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"cannot read {path} as .safetensors: {error}; it is truncated or of another kind"
        ) from error


def _instead(path: str | PathLike[str]) -> str:
    """Returns what to type instead of a file that is not there, to follow its name; or nothing."""
    there = f"{path}{SUFFIX}"
    if Path(there).is_file():
        return f": did you mean {there}?"
    name = Path(path).name.removesuffix(SUFFIX)
    named = name.lower() in map(str.lower, list_models())
    if not named and Path(path).suffix == SUFFIX:
        return ""
    variant, name = (name, name) if named else ("D", "vgg16")
    return (
        ": give a file or an address hf://owner/name; convert a published file by\n"
        f"python -m vgg_jax.convert --from=torchvision --variant={variant} {name}.pth "
        f"{name}{SUFFIX}"
    )


def read_weights(path: str | PathLike[str], *, allow_non_finite: bool = False) -> Weights:
    """Reads a weights file that `save_weights` or `python -m vgg_jax.convert` wrote.

    Args:
      path: of the file.
      allow_non_finite: takes NaN and infinity too, to look at weights that diverged.

    Raises:
      UserError: the file is missing, truncated, of another kind, its tensors do not fit the
        network that it describes, or they have values that are not finite.
    """
    weights = read_description(path)
    tensors, _ = read_safetensors(path)
    if not allow_non_finite:
        check_finite(tensors, path)
    variables = nested_variables({name: jnp.asarray(t) for name, t in tensors.items()})
    return dataclasses.replace(weights, variables=variables)


def read_description(path: str | PathLike[str]) -> Weights:
    """Reads a weights file but for its tensors: `variables` holds `jax.ShapeDtypeStruct`s.

    Raises:
      UserError: as `read_weights`, but for values.
    """
    with _opened(path) as file:
        metadata = file.metadata() or {}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path} was not written by vgg_jax; convert it first:\n"
            f"python -m vgg_jax.convert --from=torchvision --variant=D {path} DST.safetensors"
        )
    try:
        fields = {
            key: parse_json(text, f"{key} in {path}")
            for key, text in metadata.items()
            if key != "format"
        }
        model = build_model(
            fields["model"],
            image_size=fields["image_size"],
            compute_dtype=fields["compute_dtype"],
            matmul_precision=fields.get("matmul_precision", "float32"),
        )
        settings = dict(fields["preprocessing"])
        settings.pop("resize_filter", None)  # in older files; there was one only
        preprocessing = Preprocessing(**settings)
        class_names, origin = tuple(fields["class_names"]), fields["origin"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = quoted(str(error))
        raise UserError(
            f"the metadata of {path} is damaged ({reason}); convert it again"
        ) from error
    named = all(isinstance(name, str) for name in class_names)
    if not named or len(class_names) != model.num_classes:
        raise UserError(
            f"{path} names {len(class_names)} classes{'' if named else ', not all of them text,'} "
            f"for a network of {model.num_classes}; convert it again"
        )
    check_tensors(shapes, network_tensors(model), path)
    variables = nested_variables(
        {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    )
    return Weights(model, variables, preprocessing, class_names, origin)


def check_finite(tensors: Mapping[str, np.ndarray], path: str | PathLike[str]) -> None:
    """Raises UserError, with the name of the first, for tensors that have NaN or infinity."""
    for name, tensor in tensors.items():
        wrong = tensor.size - int(np.count_nonzero(np.isfinite(tensor)))
        if wrong:
            raise UserError(
                f"{path}: {wrong:,} of {tensor.size:,} values of {name} are not finite: the "
                "training that made them diverged, or the file is damaged"
            )


def check_tensors(
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    path: str | PathLike[str],
) -> None:
    """Raises UserError, with their names, for missing, unknown and misshapen tensors of a file."""
    problems = []
    for kind, names in (("missing", wanted.keys() - found), ("unknown", found.keys() - wanted)):
        if names:
            first = sorted(names)
            more = f" and {len(first) - 3} more" if len(first) > 3 else ""
            problems.append(f"{kind}: {', '.join(first[:3])}{more}")
    wrong = [name for name in wanted if name in found and found[name] != wanted[name]]
    if wrong:
        name = wrong[0]
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        problems.append(f"{name} has shape {found[name]}, not {wanted[name]}{more}")
    if problems:
        raise UserError(
            f"{path} does not hold the tensors of this network ({'; '.join(problems)}).\n"
            "Give the network that it was made for (--variant, --norm), or a complete file"
        )
