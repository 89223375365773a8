"""Keras: `.h5` weight files of `keras.applications.VGG16` and `VGG19`, and networks built alike.

Kernels are HWIO; `fc1` takes the map flattened as (height, width, channel); the input is BGR,
0..255, minus the mean (`keras.applications.vgg16.preprocess_input`). Three containers are read: the
legacy weight file (groups with `weight_names`), a whole legacy model (the same under
`model_weights`), and Keras 3's `.weights.h5` (`layers/*/vars`).
"""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.layouts import CAFFE_BGR, Contents, layer_specs

KERNEL_ORDER = "HWIO"
_LEAVES = ("kernel", "bias")  # Keras stores a layer's weights in this order


def read_keras(path: str | PathLike[str], model: VGG) -> Contents:
    """Reads a Keras HDF5 file for a network; tensors are named "layer/kernel", "layer/bias".

    Raises:
      UserError: h5py is not installed; the file is missing, truncated or of another kind; or the
        layout has no place for the network.
    """
    layer_names = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    for name in model.layer_names:
        if name.startswith("conv"):
            block, place = name.removeprefix("conv").split("_")
            layer_names[name] = f"block{block}_conv{place}"
    leaf_names = {leaf: leaf for leaf in _LEAVES}
    specs = layer_specs(model, layer_names, leaf_names, separator="/", kernel_order=KERNEL_ORDER)
    return Contents(_read_hdf5(path), specs, KERNEL_ORDER, CAFFE_BGR)


def _read_hdf5(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise UserError(f"no weights file {path}")
    try:
        import h5py
    except ImportError as error:
        raise UserError("reading .h5 needs h5py: pip install 'vgg_jax[keras]'") from error
    try:
        with h5py.File(path, "r") as file:
            arrays: dict[str, np.ndarray] = {}
            for layer, datasets in _layers(file).items():
                for index, dataset in enumerate(datasets):
                    leaf = _LEAVES[index] if index < len(_LEAVES) else str(index)
                    arrays[f"{layer}/{leaf}"] = dataset[()]
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(
            f"cannot read {path} as Keras HDF5: {error}; it is truncated or of another kind"
        ) from error
    if not arrays:
        raise UserError(f"{path} is HDF5, but holds no weights as Keras stores them")
    return arrays


def _layers(file: Any) -> dict[str, list[Any]]:
    """Returns the datasets of every layer, by its name, in Keras's order."""
    root = file.get("model_weights", file)
    if "layer_names" in root.attrs:
        groups = [_text(name) for name in root.attrs["layer_names"]]
        return {
            group: [root[group][_text(name)] for name in root[group].attrs["weight_names"]]
            for group in groups
        }
    found = {}
    for group in file.get("layers", {}).values():
        variables = group["vars"]
        found[_text(variables.attrs["name"])] = [variables[key] for key in sorted(variables)]
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
