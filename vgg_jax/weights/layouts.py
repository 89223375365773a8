"""What all layouts share: which tensor of a file is which of ours, and how its axes are turned."""

import dataclasses
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np

from vgg_jax.data import imagenet
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.store import check_tensors, network_tensors

# Mean of the training images, R, G, B on 0..255, and how the authors' Caffe networks take it
# (ksimonyan's gists 211839e770f7b538e2d8 and 3785162f95cd2d5fee77).
CAFFE_BGR = {"channel_order": "BGR", "mean": imagenet.MEAN[::-1]}


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """A tensor in a file, and its way to ours: reshape, then transpose; both are exact.

    Attributes:
      name: in the file.
      shape: in the file.
      unfolded: the same values with every axis apart.
      axes: which axis of `unfolded` each of our axes is.
    """

    name: str
    shape: tuple[int, ...]
    unfolded: tuple[int, ...]
    axes: tuple[int, ...]

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """Returns our array, contiguous float32."""
        turned = array.reshape(self.unfolded).transpose(self.axes)
        return np.ascontiguousarray(turned, dtype=np.float32)

    def from_ours(self, array: np.ndarray) -> np.ndarray:
        """Inverse of `to_ours`."""
        turned = array.transpose(np.argsort(self.axes)).reshape(self.shape)
        return np.ascontiguousarray(turned)


def tensor_spec(
    name: str, shape: tuple[int, ...], *, kernel_order: str, matrix: bool = False
) -> TensorSpec:
    """Describes the file's tensor that becomes one of ours.

    Args:
      name: in the file.
      shape: of ours: a vector, or a kernel (height, width, in, out).
      kernel_order: "OIHW" or "HWIO", of the file's kernels. A matrix of a fully connected layer
        follows it: (out, in * height * width), flattened from (in, height, width), or
        (height * width * in, out).
      matrix: whether the file has this kernel as such a matrix.
    """
    if len(shape) == 1:
        return TensorSpec(name, shape, shape, (0,))
    height, width, features_in, features_out = shape
    inputs = height * width * features_in
    if kernel_order == "OIHW":
        unfolded: tuple[int, ...] = (features_out, features_in, height, width)
        axes, folded = (2, 3, 1, 0), (features_out, inputs)
    else:
        unfolded, axes, folded = shape, (0, 1, 2, 3), (inputs, features_out)
    return TensorSpec(name, folded if matrix else unfolded, unfolded, axes)


Specs = dict[str, TensorSpec]


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a file of some layout holds.

    Attributes:
      arrays: its tensors by their names there.
      specs: the file's tensor for each of ours, by our names.
      kernel_order: "OIHW" or "HWIO"; matrices are flattened in the same spirit.
      normalization: the fields of `Preprocessing` that say what the network is fed.
      class_names: where the layout knows them; else empty.
    """

    arrays: dict[str, np.ndarray]
    specs: Specs
    kernel_order: str
    normalization: dict[str, Any]
    class_names: tuple[str, ...] = ()


def layer_specs(
    model: VGG,
    layer_names: Mapping[str, str],
    leaf_names: Mapping[str, str],
    *,
    separator: str,
    kernel_order: str,
    matrices: Sequence[str] = ("fc6", "fc7", "fc8"),
) -> Specs:
    """Returns the file's tensor for each of ours, by our names.

    Args:
      model: the network.
      layer_names: the file's name of each of our layers ("conv1_1", "bn1_1", "fc6", ...).
      leaf_names: the file's name of each of our leaves ("kernel", "bias", "scale", ...).
      separator: between the two in the file.
      kernel_order: see `tensor_spec`.
      matrices: our layers whose kernel is a matrix in the file.

    Raises:
      UserError: a network that no published layout has.
    """
    if tuple(model.head_layers) != ("fc6", "fc7", "fc8") or model.head != "imagenet":
        raise UserError(
            "published layouts have three fully connected layers: use model.head 'imagenet' "
            f"with two hidden sizes, not {model.head!r} with {list(model.head_layers)}"
        )
    check_stages(model)
    specs = {}
    for ours, shape in network_tensors(model).items():
        layer, leaf = ours.split("/")
        if layer not in layer_names or leaf not in leaf_names:
            raise UserError(f"this layout has no place for {ours}; it knows no batch norm")
        specs[ours] = tensor_spec(
            f"{layer_names[layer]}{separator}{leaf_names[leaf]}",
            shape,
            kernel_order=kernel_order,
            matrix=layer in matrices,
        )
    return specs


def check_stages(model: VGG) -> None:
    """Raises UserError for convolutional stages that no published layout has."""
    unlike = {"activation": "relu", "pooling": "max", "residual": False}
    for field, published in unlike.items():
        if getattr(model, field) != published:
            raise UserError(
                f"published layouts have model.{field} {published!r}, not {getattr(model, field)!r}"
            )
    if any(conv.lrn for stage in model.conv_stages for conv in stage):
        raise UserError(
            "A-LRN has no published weights, and Caffe's normalisation is another formula: "
            "use variant A"
        )


def our_tensors(contents: Contents, path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Turns a file's tensors into ours; empties `contents.arrays`, to hold each only once.

    Raises:
      UserError: a missing, unknown or misshapen tensor, or one of another type, by name.
    """
    arrays, specs = contents.arrays, contents.specs
    wanted = {spec.name: spec.shape for spec in specs.values()}
    check_tensors({name: tuple(array.shape) for name, array in arrays.items()}, wanted, path)
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"{name} in {path} is of type {array.dtype}; weights are floats")
    return {ours: spec.to_ours(arrays.pop(spec.name)) for ours, spec in specs.items()}
