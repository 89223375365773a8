"""Pictures compared by what a network sees in them: Johnson's losses, and LPIPS. Both of VGG-16.

Johnson, Alahi & Fei-Fei (2016), arXiv 1603.08155: feature and style loss, with the layers, weights
and means of their program (jcjohnson/fast-neural-style: train.lua, StyleLoss.lua, GramMatrix.lua).
`vgg_jax.features.style` uses the same two with Gatys' layers and weights.

Zhang et al. (2018), arXiv 1801.03924: LPIPS, version 0.1, as in richzhang/PerceptualSimilarity.
Features of VGG-16 are scaled to unit length over channels; their squared difference is weighted by
channel, averaged over positions and summed over five layers. The weights of the channels, trained
on judgements of people, are in `data/lpips_vgg.safetensors` (BSD-2, `data/LICENSE.lpips`).
"""

import functools
from os import PathLike
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.features.extractor import compute_endpoints
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights, check_finite, check_tensors, write_safetensors
from vgg_jax.weights.torchvision import NORMALIZATION, read_state_dict

CONTENT_LAYER = "relu3_3"
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CONTENT_WEIGHT = 1.0
STYLE_WEIGHT = 5.0

# The layers that LPIPS compares, and their channels in VGG-16.
LPIPS_CHANNELS = {"relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512}
LPIPS_FILE = Path(__file__).parent / "data" / "lpips_vgg.safetensors"

Arrays = dict[str, jax.Array]


def gram_matrix(features: jax.Array) -> jax.Array:
    """Maps features (N, h, w, C) to their products, averaged over positions: (N, C, C)."""
    count, height, width, channels = features.shape
    flat = features.reshape(count, height * width, channels)
    return jnp.einsum("npc,npd->ncd", flat, flat) / (height * width)


def feature_loss(features: Arrays, wanted: Arrays) -> jax.Array:
    """Compares contents.

    Args:
      features: by layer, (N, h, w, C); may hold more layers than `wanted`.
      wanted: by layer, of the same shapes.

    Returns:
      Scalar: the mean squared difference, summed over the layers of `wanted`.
    """
    terms = [jnp.mean(jnp.square(features[name] - wanted[name])) for name in wanted]
    return sum(terms, jnp.zeros(()))


def style_loss(features: Arrays, grams: Arrays) -> jax.Array:
    """Compares styles.

    Args:
      features: by layer, (N, h, w, C); may hold more layers than `grams`.
      grams: by layer, Gram matrices (N, C, C), or (1, C, C) for all N.

    Returns:
      Scalar: the mean squared difference of Gram matrices over C^2, summed over the layers of
      `grams`. Johnson et al. divide the matrices by C instead, which is the same.
    """
    terms = [
        jnp.mean(jnp.square(gram_matrix(features[name]) - gram)) / gram.shape[-1] ** 2
        for name, gram in grams.items()
    ]
    return sum(terms, jnp.zeros(()))


def style_grams(
    weights: Weights, style: np.ndarray, layers: tuple[str, ...] = STYLE_LAYERS
) -> Arrays:
    """Returns by layer the Gram matrices (1, C, C) of a picture, (H, W, 3) RGB of 0..255."""
    features = compute_endpoints(
        weights.variables,
        style[None],
        model=weights.model,
        preprocessing=weights.preprocessing,
        endpoints=layers,
    )
    return {name: gram_matrix(values) for name, values in features.items()}


def johnson_loss(
    variables: dict,
    pictures: jax.Array,
    contents: jax.Array | np.ndarray,
    grams: Arrays,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    content_weight: float = CONTENT_WEIGHT,
    style_weight: float = STYLE_WEIGHT,
) -> jax.Array:
    """Compares pictures with the content of photos and the style of a painting.

    For training a network that paints: differentiable in `pictures`, to be called in its jitted
    step (see `compute_endpoints` for `variables`).

    Args:
      variables: of the network that judges; VGG-16 in the paper.
      pictures: float (N, H, W, 3) RGB of 0..255.
      contents: the photos, (N, H, W, 3) RGB of 0..255.
      grams: from `style_grams`.
      model: the network.
      preprocessing: of its weights.
      content_weight: of `feature_loss` at `CONTENT_LAYER`.
      style_weight: of `style_loss` at the layers of `grams`.

    Returns:
      Scalar.

    Raises:
      UserError: the network has no such layer, or the pictures are too small.
    """
    photo = compute_endpoints(
        variables,
        contents,
        model=model,
        preprocessing=preprocessing,
        endpoints=(CONTENT_LAYER,),
    )
    features = compute_endpoints(
        variables,
        pictures,
        model=model,
        preprocessing=preprocessing,
        endpoints=tuple({CONTENT_LAYER: None} | dict.fromkeys(grams)),
    )
    content, style = feature_loss(features, photo), style_loss(features, grams)
    return content_weight * content + style_weight * style


def load_lpips(path: str | PathLike[str] = LPIPS_FILE) -> Arrays:
    """Reads the linear layers of LPIPS for VGG-16 from a local file.

    Args:
      path: the authors' `weights/v0.1/vgg.pth` (needs PyTorch), or the same tensors as
        `.safetensors`: `lin0.model.1.weight` to `lin4.model.1.weight`, (1, C, 1, 1) each. By
        default the authors', which are part of this package.

    Returns:
      By layer, a weight for each channel: (C,).

    Raises:
      UserError: the file is missing, truncated or of another kind, holds other tensors, or a
        weight is negative or not finite.
    """
    shapes = {
        f"lin{index}.model.1.weight": (1, channels, 1, 1)
        for index, channels in enumerate(LPIPS_CHANNELS.values())
    }
    tensors = read_state_dict(path)
    check_tensors({name: tensor.shape for name, tensor in tensors.items()}, shapes, path)
    check_finite(tensors, path)
    for name, tensor in tensors.items():
        if tensor.min() < 0:
            raise UserError(f"{name} in {path} has negative weights: these are not those of LPIPS")
    return {
        layer: jnp.asarray(tensors[name].reshape(-1))
        for layer, name in zip(LPIPS_CHANNELS, shapes, strict=True)
    }


def save_lpips(path: str | PathLike[str], linear: Arrays) -> None:
    """Writes linear layers as a `.safetensors` file for `load_lpips`.

    Raises:
      UserError: the file cannot be written.
    """
    tensors = {
        f"lin{index}.model.1.weight": np.asarray(values).reshape(1, -1, 1, 1)
        for index, values in enumerate(linear.values())
    }
    write_safetensors(path, tensors, {"format": "LPIPS 0.1"})


def lpips(
    first: jax.Array | np.ndarray,
    second: jax.Array | np.ndarray,
    weights: Weights,
    linear: Arrays | None = None,
) -> jax.Array:
    """Computes the perceptual distance of pairs of pictures.

    Compiled once per shape, and differentiable in both pictures. In a jitted function of your own,
    call `lpips_loss`, which takes the parameters as an argument.

    Args:
      first: RGB of 0..255, uint8 or float (N, H, W, 3), 32 pixels or more.
      second: of the same shape.
      weights: of torchvision's VGG-16 (`convert --from=lpips` or `--from=torchvision`).
      linear: a weight for each channel by layer; by default the authors', which belong to
        torchvision's weights alone.

    Returns:
      float32 (N,), 0 for equal pictures.

    Raises:
      UserError: shapes that differ, pictures too small, a network without such layers, or, with
        the authors' linear layers, weights whose images are not normalised as torchvision's are:
        the input scaling of LPIPS is that normalisation.
    """
    if first.shape != second.shape:
        raise UserError(f"pictures of {first.shape} and {second.shape}: give pairs of one shape")
    if linear is None:
        linear = load_lpips()
        normalization = {name: getattr(weights.preprocessing, name) for name in NORMALIZATION}
        if normalization != NORMALIZATION or weights.preprocessing.channel_order != "RGB":
            raise UserError(
                "the published linear layers of LPIPS belong to torchvision's VGG-16, and these "
                "weights take other images: give torchvision's, or `linear` layers of their own"
            )
    return lpips_loss(
        weights.variables,
        first,
        second,
        linear,
        model=weights.model,
        preprocessing=weights.preprocessing,
    )


@functools.partial(jax.jit, static_argnames=("model", "preprocessing"))
def lpips_loss(
    variables: dict,
    first: jax.Array | np.ndarray,
    second: jax.Array | np.ndarray,
    linear: Arrays,
    *,
    model: VGG,
    preprocessing: Preprocessing,
) -> jax.Array:
    """Computes what `lpips` does, for the jitted step of a network that is trained with it.

    Args:
      variables: of VGG-16 (see `compute_endpoints`).
      first: RGB of 0..255, (N, H, W, 3).
      second: of the same shape.
      linear: from `load_lpips`.
      model: the network.
      preprocessing: of its weights.

    Returns:
      float32 (N,).

    Raises:
      UserError: the network has no such layers, or the pictures are too small.
    """
    features = [
        compute_endpoints(
            variables,
            pictures,
            model=model,
            preprocessing=preprocessing,
            endpoints=tuple(linear),
        )
        for pictures in (first, second)
    ]
    for layer, values in linear.items():
        if features[0][layer].shape[-1:] != values.shape:
            raise UserError(
                f"{layer} has {features[0][layer].shape[-1]} channels, and linear weights for "
                f"{len(values)}: give weights of vgg16"
            )
    return lpips_distance(*features, linear)


@jax.jit
def lpips_distance(first: Arrays, second: Arrays, linear: Arrays) -> jax.Array:
    """Compares features.

    Args:
      first: by layer, (N, h, w, C).
      second: of the same shapes.
      linear: by layer, a weight for each channel, (C,).

    Returns:
      (N,): the squared difference of features of unit length at each position, weighted by
      channel, averaged over positions and summed over layers.
    """
    terms = [
        jnp.square(_unit(first[name]) - _unit(second[name])).mean((1, 2)) @ channel_weights
        for name, channel_weights in linear.items()
    ]
    return sum(terms, jnp.zeros(()))


def _unit(features: jax.Array) -> jax.Array:
    """Scales every position to length 1 over channels; if all are 0, they stay so."""
    square = jnp.sum(jnp.square(features), -1, keepdims=True)
    # The root of 0 has no gradient.
    return features / jnp.sqrt(jnp.where(square > 0, square, 1))
