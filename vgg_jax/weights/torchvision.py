"""torchvision and timm: state dictionaries as `.safetensors` or `.pth`, in and out.

Kernels are OIHW; the first fully connected layer takes the map flattened as (channel, height,
width). Images are RGB in 0..1, minus a mean, over a standard deviation. Dropout follows the ReLU of
both hidden layers, as in head "imagenet". timm keeps the numbering of the convolutions and has the
fully connected layers as convolutions: `pre_logits.fc1`, `pre_logits.fc2`, `head.fc`.
"""

from os import PathLike
from pathlib import Path

import numpy as np

from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.layouts import Contents, Specs, layer_specs
from vgg_jax.weights.store import read_safetensors

KERNEL_ORDER = "OIHW"
_LEAVES = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
NORMALIZATION = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "scale": 1 / 255,
}
# A count that torch keeps beside the running statistics and does not use with a fixed momentum.
BATCHES_TRACKED = "num_batches_tracked"


def read_torchvision(path: str | PathLike[str], model: VGG) -> Contents:
    """Reads a torchvision state dictionary for a network.

    Raises:
      UserError: the file is missing, truncated, of another kind or holds more than tensors; or the
        layout has no place for the network.
    """
    return Contents(read_state_dict(path), torchvision_specs(model), KERNEL_ORDER, NORMALIZATION)


def read_timm(path: str | PathLike[str], model: VGG) -> Contents:
    """Reads a timm state dictionary for a network; raises as `read_torchvision` does."""
    dense = {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"}
    specs = _specs(model, dense, matrices=("fc8",))
    return Contents(read_state_dict(path), specs, KERNEL_ORDER, NORMALIZATION)


def torchvision_specs(model: VGG) -> Specs:
    """Returns torchvision's tensor for each of ours, by our names."""
    dense = {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    return _specs(model, dense, matrices=tuple(dense))


def _specs(model: VGG, dense: dict[str, str], matrices: tuple[str, ...]) -> Specs:
    return layer_specs(
        model,
        _feature_names(model) | dense,
        _LEAVES,
        separator=".",
        kernel_order=KERNEL_ORDER,
        matrices=matrices,
    )


def _feature_names(model: VGG) -> dict[str, str]:
    """Returns "features.N" for every convolution and batch norm: ReLUs and poolings count too."""
    names = {}
    index = 0
    for number, stage in enumerate(model.conv_stages, 1):
        for place in range(1, len(stage) + 1):
            names[f"conv{number}_{place}"] = f"features.{index}"
            index += 1
            if model.norm == "batch":
                names[f"bn{number}_{place}"] = f"features.{index}"
                index += 1
            index += 1  # ReLU
        index += 1  # pooling
    return names


def read_state_dict(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """Reads PyTorch's tensors by name, floats as float32; counts of batch norm are left out.

    Args:
      path: a `.safetensors` file, or any other for `torch.load(weights_only=True)`.

    Raises:
      UserError: the file is missing, truncated, of another kind or holds more than tensors.
    """
    if Path(path).suffix == ".safetensors":
        tensors, _ = read_safetensors(path)
    else:
        tensors = _read_pickle(path)
    return {name: t for name, t in tensors.items() if not name.endswith(BATCHES_TRACKED)}


def _read_pickle(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    if not Path(path).is_file():
        raise UserError(f"no weights file {path}")
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"reading {path} needs PyTorch: pip install 'vgg_jax[torch]', or give .safetensors"
        ) from error
    import pickle

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is truncated, or holds more than tensors, which could run code:\n"
            "save its state_dict() alone, best as .safetensors"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(
            f"cannot read {path}: {error}; it is truncated or of another kind"
        ) from error
    tensors = content.values() if isinstance(content, dict) else [None]
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        raise UserError(f"{path} is no state dictionary: save the state_dict() of the model alone")
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in content.items()
    }
