"""From a file in a published layout to `Weights`."""

from collections.abc import Callable
from os import PathLike
from pathlib import Path

import jax.numpy as jnp

from vgg_jax.data.folder import imagenet_classes
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import unknown_name
from vgg_jax.models import VGG
from vgg_jax.weights.caffe import read_caffe
from vgg_jax.weights.keras import read_keras
from vgg_jax.weights.layouts import Contents, our_tensors
from vgg_jax.weights.lpips import read_lpips
from vgg_jax.weights.store import Weights, check_finite, nested_variables
from vgg_jax.weights.torchvision import read_timm, read_torchvision

LAYOUTS: dict[str, Callable[[str | PathLike[str], VGG], Contents]] = {
    "torchvision": read_torchvision,
    "timm": read_timm,
    "keras": read_keras,
    "caffe": read_caffe,
    "lpips": read_lpips,
}


def import_weights(path: str | PathLike[str], layout: str, model: VGG) -> Weights:
    """Reads a file in a published layout.

    The colour order of the weights is kept, and told by their preprocessing. Images are resized to
    8/7 of the network's side and cropped, as 256 and 224 pixels are. Where the layout names no
    classes, the names of 1000 are ImageNet's; else the class numbers.

    Args:
      path: a local file.
      layout: a name in `LAYOUTS`.
      model: the network that it was made for.

    Raises:
      UserError: the file is missing, truncated or of another kind; a tensor is missing, unknown or
        misshapen; or the layout has no place for the network.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    contents = LAYOUTS[layout](path, model)
    tensors = our_tensors(contents, path)
    check_finite(tensors, path)
    crop = model.smallest_image
    preprocessing = Preprocessing(
        resize=round(crop * 256 / 224), crop=crop, **contents.normalization
    )
    names = contents.class_names or tuple(imagenet_classes().values())
    if model.num_classes != len(names):
        names = tuple(str(index) for index in range(model.num_classes))
    origin = {"layout": layout, "file": Path(path).name, "kernel_order": contents.kernel_order}
    variables = nested_variables({name: jnp.asarray(array) for name, array in tensors.items()})
    return Weights(model, variables, preprocessing, names, origin)
