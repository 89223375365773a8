"""Intermediates of a trained network, by name."""

import functools
import re
from collections.abc import Sequence
from os import PathLike

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.data.preprocessing import Encoded, Preprocessing, check_several
from vgg_jax.errors import UserError, unknown_name
from vgg_jax.models import VGG
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights

_KERAS = re.compile(r"block(\d)_(?:conv(\d)|pool)")


def extract_features(
    weights: Weights | str | PathLike[str],
    images: Sequence[Encoded] | np.ndarray,
    endpoints: Sequence[str],
    *,
    batch_size: int = 16,
) -> dict[str, np.ndarray]:
    """Computes endpoints of a network, as `VGG` names them, for images of one shape.

    Only what the endpoints need is computed. Endpoints of convolutional stages alone take images
    of any size from one position of the last map (32 pixels after five stages); others at least
    the head's.

    Args:
      weights: from `load_weights`, or the path of a weights file.
      images: image files, as paths or contents, of which the weights' centre crop is taken; or
        uint8 (N, H, W, 3) RGB, taken whole.
      endpoints: names such as "relu4_2", "pool5", "relu7".
      batch_size: images at a time.

    Returns:
      For each endpoint float32 (N, h, w, channels); h = w = 1 in the head for images of its size.

    Raises:
      UserError: an unknown endpoint, weights or an image that cannot be read, an array of another
        kind, a single image or none, images too small, or `batch_size` below 1.
    """
    if not isinstance(weights, Weights):
        weights = load_weights(weights)
    if isinstance(images, np.ndarray) and (
        images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3
    ):
        raise UserError(
            f"an array of {images.dtype} {images.shape} is no batch of images: "
            "give uint8 (N, H, W, 3), RGB"
        )
    check_several(images)
    if batch_size < 1 or not len(images) or not endpoints:
        raise UserError(
            f"{len(images)} images, {len(endpoints)} endpoints, batch_size={batch_size}: "
            "give at least one of each"
        )
    found: dict[str, list[np.ndarray]] = {name: [] for name in endpoints}
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        pixels = part
        if not isinstance(part, np.ndarray):
            pixels = np.stack([weights.preprocessing.load(image) for image in part])
        computed = compute_endpoints(
            weights.variables,
            pixels,
            model=weights.model,
            preprocessing=weights.preprocessing,
            endpoints=tuple(endpoints),
        )
        for name, values in computed.items():
            found[name].append(np.asarray(values))
    return {name: np.concatenate(parts) for name, parts in found.items()}


@functools.partial(jax.jit, static_argnames=("model", "preprocessing", "endpoints"))
def compute_endpoints(
    variables: dict,
    images: jax.Array,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    endpoints: tuple[str, ...],
) -> dict[str, jax.Array]:
    """Computes endpoints on the device, differentiably; the compiler drops all others.

    Within a jitted function of your own, let `variables` be one of its arguments: as constants they
    are folded for minutes while it compiles.

    Args:
      variables: of the network.
      images: RGB of 0..255, uint8 or float (N, H, W, 3).
      model: the network.
      preprocessing: of the weights.
      endpoints: names such as "relu4_2".

    Returns:
      For each endpoint float32 (N, h, w, channels).

    Raises:
      UserError: an unknown endpoint, or images too small.
    """
    conv_only = need_no_head(model, endpoints)
    _, computed = model.apply(variables, preprocessing.normalize(images), conv_only=conv_only)
    return {name: computed[name].astype(jnp.float32) for name in endpoints}


def need_no_head(model: VGG, endpoints: Sequence[str]) -> bool:
    """Tells whether all endpoints lie in the convolutional stages.

    Raises:
      UserError: the network has no such endpoint.
    """
    with_head = _endpoint_shapes(model, conv_only=False)
    for name in endpoints:
        keras = _KERAS.fullmatch(name)
        if keras:  # whose convolutions end with their ReLU
            ours = f"relu{keras[1]}_{keras[2]}" if keras[2] else f"pool{keras[1]}"
            raise UserError(f"endpoint {name!r} is a name of Keras's: type {ours}")
        if name not in with_head:
            raise unknown_name("endpoint", name, with_head)
    return _endpoint_shapes(model, conv_only=True).keys() >= set(endpoints)


def endpoint_shape(model: VGG, endpoint: str) -> tuple[int, int, int]:
    """Returns (h, w, channels) of an endpoint for an image of the head's size."""
    return _endpoint_shapes(model, conv_only=False)[endpoint]


@functools.cache  # tracing takes longer than a batch of small images
def _endpoint_shapes(model: VGG, *, conv_only: bool) -> dict[str, tuple[int, int, int]]:
    side = model.smallest_image
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    initialize = functools.partial(model.init_with_output, conv_only=conv_only)
    (_, endpoints), _ = jax.eval_shape(initialize, jax.random.key(0), images)
    return {name: leaf.shape[1:] for name, leaf in endpoints.items()}
