"""From `Weights` to what other programs read: torchvision's layout, and StableHLO."""

import dataclasses
import json
from os import PathLike
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.errors import UserError
from vgg_jax.ops.platforms import every_platform
from vgg_jax.weights.store import (
    Weights,
    flat_tensors,
    nested_variables,
    network_tensors,
    write_safetensors,
)
from vgg_jax.weights.torchvision import BATCHES_TRACKED, torchvision_specs

PLATFORMS = ("cpu", "cuda", "tpu")


def export_torchvision(path: str | PathLike[str], weights: Weights) -> None:
    """Writes torchvision's state dictionary, `.pth` (which needs torch) or else `.safetensors`.

    The values are unchanged: a network that takes BGR, or 0..255, still does. The preprocessing
    stands in the metadata of a `.safetensors` file.

    Raises:
      UserError: torchvision has no such network, torch is not installed, or the file cannot be
        written.
    """
    ours = flat_tensors(weights.variables)
    tensors = {}
    for name, spec in torchvision_specs(weights.model).items():
        tensors[spec.name] = spec.from_ours(np.asarray(ours[name]))
        if name.endswith("/var"):
            layer = spec.name.rpartition(".")[0]
            tensors[f"{layer}.{BATCHES_TRACKED}"] = np.zeros((), np.int64)
    if Path(path).suffix == ".safetensors":
        preprocessing = json.dumps(dataclasses.asdict(weights.preprocessing))
        write_safetensors(path, tensors, {"format": "pt", "preprocessing": preprocessing})
        return
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"writing {path} needs PyTorch: pip install 'vgg_jax[torch]', or give .safetensors"
        ) from error
    try:
        torch.save({name: torch.tensor(array) for name, array in tensors.items()}, path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {path}: {error}; give another path") from error


def export_stablehlo(path: str | PathLike[str], weights: Weights) -> None:
    """Writes the inference function as serialised StableHLO (`jax.export`), without the weights.

    The function maps (tensors, images) to probabilities: the tensors of the weights file by name,
    images uint8 (batch, crop, crop, 3) RGB, probabilities float32 (batch, classes); the
    normalisation is in it. The batch is free, the platforms are `PLATFORMS`. To run it:

        function = jax.export.deserialize(bytearray(Path("net.stablehlo").read_bytes()))
        probabilities = function.call(safetensors.numpy.load_file("net.safetensors"), images)

    Raises:
      UserError: the file cannot be written.
    """

    @jax.jit
    def classify(tensors: dict[str, jax.Array], images: jax.Array) -> jax.Array:
        variables = nested_variables(tensors)

        def classify_one(image: jax.Array) -> jax.Array:
            inputs = weights.preprocessing.normalize(image[None])
            logits, _ = weights.model.apply(variables, inputs)
            return jax.nn.softmax(logits[0])

        # Image by image, because how a convolution is computed is chosen by the number of images,
        # which is not known here.
        return jax.vmap(classify_one)(images)

    crop = weights.preprocessing.crop
    (batch,) = jax.export.symbolic_shape("batch")
    tensors = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32)
        for name, shape in network_tensors(weights.model).items()
    }
    images = jax.ShapeDtypeStruct((batch, crop, crop, 3), jnp.uint8)
    with every_platform():
        exported = jax.export.export(classify, platforms=PLATFORMS)(tensors, images)
    partial = Path(f"{path}.partial")
    try:
        partial.write_bytes(exported.serialize())
        partial.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another path") from error
