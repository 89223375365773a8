"""The authors' Caffe networks: `.caffemodel`, and the `.npz` conversions in circulation.

All have kernels for images minus the mean, 0..255. The conversions:

    conv1_1_W, conv1_1_b, fc6_W, ...    Davi Frossard's vgg16_weights.npz: HWIO; fc6 takes the map
                                        flattened as (height, width, channel); the first kernel is
                                        turned to RGB
    conv1_1/W, conv1_1/b, fc6/W, ...    Chainer's VGG_ILSVRC_16_layers.npz: as in Caffe, that is
                                        OIHW, (channel, height, width), BGR
"""

import zipfile
from os import PathLike
from pathlib import Path

import numpy as np

from vgg_jax.data import imagenet
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.layouts import CAFFE_BGR, Contents, layer_specs
from vgg_jax.weights.protobuf import ProtobufError, read_caffemodel

_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = b"PK"


def read_caffe(path: str | PathLike[str], model: VGG) -> Contents:
    """Reads a `.caffemodel` or `.npz` file for a network.

    Raises:
      UserError: the file is missing, truncated, of another kind or a pickle; or the layout has no
        place for the network.
    """
    if not Path(path).is_file():
        raise UserError(f"no weights file {path}")
    with Path(path).open("rb") as file:
        start = file.read(len(_NPY_MAGIC))
    # A pickle of protocol 2 and later begins so; no protobuf of a network does.
    if start == _NPY_MAGIC or start.startswith(b"\x80"):
        raise UserError(
            f"{path} is or may hold a pickle, which can run code when read, so it is refused:\n"
            "use the .npz conversion or the .caffemodel"
        )
    return _read_npz(path, model) if start.startswith(_ZIP_MAGIC) else _read_model(path, model)


def _read_model(path: str | PathLike[str], model: VGG) -> Contents:
    specs = layer_specs(
        model,
        {name: name for name in model.layer_names},
        {"kernel": "0", "bias": "1"},  # the place among a layer's blobs
        separator="/",
        kernel_order="OIHW",
    )
    try:
        blobs = read_caffemodel(path)
    except ProtobufError as error:
        raise UserError(
            f"cannot read {path} as .caffemodel: {error}; it is truncated or of another kind"
        ) from error
    wanted = {spec.name: spec.shape for spec in specs.values()}
    arrays = {}
    for name, (array, legacy) in blobs.items():
        # The old format has four axes everywhere: a bias is (1, 1, 1, n), a matrix (1, 1, n, m).
        shape = wanted.get(name, array.shape)
        same = legacy and _without_ones(array.shape) == _without_ones(shape)
        arrays[name] = array.reshape(shape) if same else array
    return Contents(arrays, specs, "OIHW", CAFFE_BGR)


def _read_npz(path: str | PathLike[str], model: VGG) -> Contents:
    try:
        # Opened here: NumPy leaves a damaged file open.
        with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read {path} as .npz: {error}; it is truncated") from error
    except ValueError as error:  # what NumPy says of an array of Python objects
        raise UserError(
            f"cannot read {path}: {error}; a pickle can run code when read, so it is refused"
        ) from error
    chainer = any("/" in name for name in arrays)
    order = "OIHW" if chainer else "HWIO"
    specs = layer_specs(
        model,
        {name: name for name in model.layer_names},
        {"kernel": "W", "bias": "b"},
        separator="/" if chainer else "_",
        kernel_order=order,
    )
    normalization = CAFFE_BGR if chainer else {"mean": imagenet.MEAN}
    return Contents(arrays, specs, order, normalization)


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [length for length in shape if length != 1]
