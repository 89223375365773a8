"""Networks by the names that torchvision, timm and the paper give them."""

import functools
from os import PathLike
from typing import Any, overload

from vgg_jax.errors import UserError, unknown_name
from vgg_jax.models import MODEL_KEYS, VGG, build_model
from vgg_jax.models.variants import network_fields, resolve_stages
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights

IMAGE_SIZE = 224  # of every published network


@overload
def create_model(
    name: str,
    *,
    weights: None = None,
    image_size: int = IMAGE_SIZE,
    compute_dtype: str = "float32",
    **fields: Any,
) -> VGG: ...


@overload
def create_model(name: str, *, weights: str | PathLike[str]) -> Weights: ...


def create_model(
    name: str,
    *,
    weights: str | PathLike[str] | None = None,
    image_size: int = IMAGE_SIZE,
    compute_dtype: str = "float32",
    **fields: Any,
) -> VGG | Weights:
    """Makes a network by name.

        model = create_model("vgg16_bn", num_classes=10)
        variables = model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
        logits, endpoints = model.apply(variables, images)

    Args:
      name: one of `list_models()`: "vgg16", "vgg16_bn", ..., the paper's "D" or "plain-34".
      weights: a weights file of that network, or an address as `load_weights` takes. What it
        computes is in the file then, so that nothing else is to be given.
      image_size: side in pixels of the images that the head covers, a multiple of 32.
      compute_dtype: "float32" or "bfloat16"; parameters are float32 in both.
      **fields: of `VGG`: num_classes, head ("cifar" for small images), dropout, width, ...

    Returns:
      The network. Flax keeps parameters apart from it: draw them by `init`. With `weights`, what
      `load_weights` returns: the network with its variables, preprocessing and class names.

    Raises:
      UserError: an unknown name or field, a value out of range, or a file of another network.
    """
    named = network_fields(name)
    if weights is not None:
        if fields or image_size != IMAGE_SIZE or compute_dtype != "float32":
            raise UserError(
                f"{weights} says what its network is: leave out all but weights. To train it on "
                f"other classes:\nvgg_jax.fit('finetune:{weights}', data=(images, labels))"
            )
        return _loaded(name, named, weights)
    if "pretrained" in fields:
        raise UserError(
            "create_model takes no pretrained: give weights='hf://timm/vgg16.tv_in1k' or the like, "
            "or weights=FILE\nthat python -m vgg_jax.convert made of a published one"
        )
    for field in fields:
        if field not in MODEL_KEYS:
            known = {*MODEL_KEYS, "weights", "image_size", "compute_dtype"} - {"variant"}
            raise unknown_name("argument of create_model", field, known)
    return build_model(named | fields, image_size=image_size, compute_dtype=compute_dtype)


def _loaded(name: str, named: dict[str, str], path: str | PathLike[str]) -> Weights:
    """Reads a weights file.

    Raises:
      UserError: it holds another network than its caller named.
    """
    loaded = load_weights(path)
    model = loaded.model
    wanted = (resolve_stages(named["variant"], None), named.get("norm", VGG.norm))
    if (resolve_stages(model.variant, model.stages), model.norm) != wanted:
        found = f"stages {model.stages}" if model.stages else f"variant {model.variant}"
        raise UserError(
            f"{path} holds another network than {name}: {found}, norm {model.norm}.\n"
            f"load_weights({str(path)!r}) returns it whatever it is"
        )
    return loaded


# The arguments are those of `create_model`.
vgg11 = functools.partial(create_model, "vgg11")
"""Net A of Simonyan & Zisserman (2014), table 1: images (N, 224, 224, 3) to logits (N, 1000)."""
vgg11_bn = functools.partial(create_model, "vgg11_bn")
"""Net A with batch norm (Ioffe & Szegedy 2015) after every convolution, as torchvision has it."""
vgg13 = functools.partial(create_model, "vgg13")
"""Net B of Simonyan & Zisserman (2014), table 1: images (N, 224, 224, 3) to logits (N, 1000)."""
vgg13_bn = functools.partial(create_model, "vgg13_bn")
"""Net B with batch norm (Ioffe & Szegedy 2015) after every convolution, as torchvision has it."""
vgg16 = functools.partial(create_model, "vgg16")
"""Net D of Simonyan & Zisserman (2014), table 1: images (N, 224, 224, 3) to logits (N, 1000)."""
vgg16_bn = functools.partial(create_model, "vgg16_bn")
"""Net D with batch norm (Ioffe & Szegedy 2015) after every convolution, as torchvision has it."""
vgg19 = functools.partial(create_model, "vgg19")
"""Net E of Simonyan & Zisserman (2014), table 1: images (N, 224, 224, 3) to logits (N, 1000)."""
vgg19_bn = functools.partial(create_model, "vgg19_bn")
"""Net E with batch norm (Ioffe & Szegedy 2015) after every convolution, as torchvision has it."""
for _made in (vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn):
    _made.__doc__ = create_model.__doc__  # what help() and a notebook's vgg16? show
