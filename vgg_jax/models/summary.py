"""Counts of a network, layer by layer, from shapes alone: nothing is allocated or computed."""

import dataclasses
import math
from collections.abc import Iterable

import jax

from vgg_jax.models.vgg import VGG


@dataclasses.dataclass(frozen=True)
class LayerSummary:
    """One layer.

    Attributes:
      name: its endpoint.
      shape: of the output for one image (height, width, channels).
      parameters: number of trained values.
      macs: multiply-accumulate operations for one image; those of convolutions and fully
        connected layers are counted (biases, normalisation and pooling are not).
      activation_bytes: size of the output for one image in the compute dtype.
      receptive_field: side in pixels of the square of the input that one output position sees.
    """

    name: str
    shape: tuple[int, int, int]
    parameters: int
    macs: int
    activation_bytes: int
    receptive_field: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """A network's layers in order of computation, and sums over them."""

    layers: tuple[LayerSummary, ...]

    @property
    def parameters(self) -> int:
        """Number of trained values."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def fully_connected_parameters(self) -> int:
        """Number of trained values in the head."""
        return sum(layer.parameters for layer in self.layers if layer.name.startswith("fc"))

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations for one image, forward."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of the listed outputs for one image."""
        return sum(layer.activation_bytes for layer in self.layers)

    @property
    def activations(self) -> int:
        """Number of output values of convolutions and fully connected layers for one image."""
        return sum(math.prod(layer.shape) for layer in self.layers if layer.macs)


def receptive_field(windows: Iterable[tuple[int, int]]) -> int:
    """Returns the side of the input square seen through a stack of (window, stride) layers."""
    side, jump = 1, 1
    for window, stride in windows:
        side += (window - 1) * jump
        jump *= stride
    return side


def summarize_model(model: VGG, image_size: int) -> Summary:
    """Counts the layers of a network for square images.

    Activations are part of the layer before them, so they have no line of their own.

    Args:
      model: the network.
      image_size: side of the image in pixels.

    Raises:
      UserError: the image is too small for the head.
    """
    names: list[str] = []

    def trace(images: jax.Array) -> tuple[dict[str, jax.Array], dict]:
        # Without remat: its endpoints come back sorted by name.
        (_, endpoints), variables = model.clone(remat=False).init_with_output(
            jax.random.key(0), images
        )
        names.extend(endpoints)
        return endpoints, variables["params"]

    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), model.dtype)
    endpoints, params = jax.eval_shape(trace, images)

    layers, windows = [], []
    pool_window = 1 if model.pooling == "none" else 2
    for name in names:
        if name.startswith(("relu", "add")):
            continue
        output, weights = endpoints[name], params.get(name, {})
        if name.startswith("pool"):
            windows.append((pool_window, 2))
        macs = 0
        if "kernel" in weights:
            windows.append((weights["kernel"].shape[0], 1))
            macs = math.prod(output.shape[1:3]) * weights["kernel"].size
        layers.append(
            LayerSummary(
                name=name,
                shape=output.shape[1:],
                parameters=sum(leaf.size for leaf in jax.tree.leaves(weights)),
                macs=macs,
                activation_bytes=output.size * output.dtype.itemsize,
                receptive_field=receptive_field(windows),
            )
        )
    return Summary(tuple(layers))
