"""Class probabilities of a data set, by any protocol, scales and networks."""

import functools
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError, unknown_name
from vgg_jax.evaluation.protocols import PROTOCOLS, ViewSpec
from vgg_jax.evaluation.views import view_averages
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights
from vgg_jax.xla import NETWORK, on_cpu


def class_probabilities(
    variables: dict,
    images: jax.Array | np.ndarray,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    mirrored: bool = False,
) -> jax.Array:
    """Classifies images of one shape.

    Args:
      variables: of the network.
      images: uint8 (N, H, W, 3), RGB.
      model: the network.
      preprocessing: says how images are normalised.
      mirrored: whether to average with the mirror images.

    Returns:
      float32 (N, classes): softmax of the spatial mean of the score map.
    """
    return _compiled()(
        variables, images, model=model, preprocessing=preprocessing, mirrored=mirrored
    )


@functools.cache  # on the first call: to ask for the backend when imported would start it
def _compiled() -> Callable[..., jax.Array]:
    static = ("model", "preprocessing", "mirrored")
    return jax.jit(_class_probabilities, static_argnames=static, compiler_options=on_cpu(NETWORK))


def _class_probabilities(
    variables: dict,
    images: jax.Array,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    mirrored: bool,
) -> jax.Array:
    inputs = preprocessing.normalize(images)
    logits, _ = model.apply(variables, inputs)
    probabilities = jax.nn.softmax(logits)
    if mirrored:
        flipped, _ = model.apply(variables, inputs[:, :, ::-1])
        probabilities = (probabilities + jax.nn.softmax(flipped)) / 2
    return probabilities


def dataset_probabilities(
    nets: Sequence[Weights],
    source: Source,
    *,
    protocol: str = "center",
    scales: Sequence[int],
    batch_size: int = 32,
    progress: Callable[[range], Iterable[int]] = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the class probabilities and the label of every example, in order.

    Views of one shape go through the networks together (`views.view_averages`).

    Args:
      nets: networks whose probabilities are averaged; they share classes and crop.
      source: labelled images.
      protocol: a name in `protocols.PROTOCOLS`.
      scales: shortest sides Q, averaged over.
      batch_size: images of the networks' own size at a time; of larger ones as many pixels.
      progress: wraps the examples' numbers as they are gone through.

    Returns:
      float32 (N, classes), and int32 (N,), as the source counts its classes.

    Raises:
      UserError: an unknown protocol, a scale below the crop, networks that do not belong together,
        or an example that cannot be decoded.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    crop = _common_crop(nets)
    if min(scales) < crop:
        raise UserError(f"scale {min(scales)} is below the networks' crop; give {crop} or more")
    stride = 2 ** len(nets[0].model.conv_stages)
    functions = [
        functools.partial(
            class_probabilities, net.variables, model=net.model, preprocessing=net.preprocessing
        )
        for net in nets
    ]
    return view_averages(
        functions,
        nets[0].model.num_classes,
        source,
        parts=PROTOCOLS[protocol],
        specs=[ViewSpec(scale, crop, stride) for scale in scales],
        batch_size=batch_size,
        progress=progress,
    )


def _common_crop(nets: Sequence[Weights]) -> int:
    first = nets[0]
    for net in nets:
        if (
            net.class_names != first.class_names
            or net.preprocessing.crop != first.preprocessing.crop
        ):
            raise UserError(
                "networks of an ensemble must share their classes and their crop; these have "
                f"{len(first.class_names)} and {len(net.class_names)} classes, crops of "
                f"{first.preprocessing.crop} and {net.preprocessing.crop}"
            )
    return first.preprocessing.crop
