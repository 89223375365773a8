"""Filters rescaled to a mean activation of 1, without a change to what the network computes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vgg_jax.data.preprocessing import Encoded
from vgg_jax.errors import UserError
from vgg_jax.features.extractor import extract_features
from vgg_jax.weights.store import Weights, flat_tensors, nested_variables


def normalize_weights(weights: Weights, images: Sequence[Encoded] | np.ndarray) -> Weights:
    """Rescales every filter so that its mean activation, over images and positions, is 1.

    Gatys, Ecker & Bethge (2016), section 2. ReLU and both poolings let a factor pass, so the next
    layer takes it back and the logits stay as they were. A filter that never fires keeps its scale.

    Args:
      weights: of convolutions with ReLU, without normalisation and shortcuts.
      images: as `extract_features` takes them.

    Raises:
      UserError: a network of another kind, no images, or one that cannot be read.
    """
    model = weights.model
    has_lrn = any(conv.lrn for stage in model.conv_stages for conv in stage)
    if model.norm != "none" or model.activation != "relu" or model.residual or has_lrn:
        raise UserError(
            "only plain ReLU networks can be normalised, not ones with batch norm, local response "
            "norm,\nshortcuts or another activation: give weights of vgg11, 13, 16 or 19"
        )
    if not len(images):
        raise UserError("no images to take mean activations of: give at least one")
    first_dense = next(iter(model.head_layers))
    convs = model.layer_names[: model.layer_names.index(first_dense)]
    means = _mean_activations(weights, images, convs)
    tensors = flat_tensors(weights.variables)
    inputs = np.ones(3, np.float32)  # the factors that the layer before has divided by
    for conv in convs:
        outputs = means[conv]
        tensors[f"{conv}/kernel"] *= (inputs[:, None] / outputs)[None, None]
        tensors[f"{conv}/bias"] /= outputs
        inputs = outputs
    tensors[f"{first_dense}/kernel"] *= inputs[None, None, :, None]
    return dataclasses.replace(
        weights,
        variables=nested_variables(tensors),
        origin=weights.origin | {"mean_activations": f"1 over {len(images)} images"},
    )


def _mean_activations(
    weights: Weights, images: Sequence[Encoded] | np.ndarray, convs: Sequence[str]
) -> dict[str, np.ndarray]:
    """Returns by convolution the filters' mean activations, float32; 1 if that is 0."""
    relus = [conv.replace("conv", "relu") for conv in convs]
    sums = dict.fromkeys(relus, np.zeros(()))
    for index in range(len(images)):  # one at a time: all maps of a batch are large
        for name, maps in extract_features(weights, images[index : index + 1], relus).items():
            sums[name] = sums[name] + maps.mean((0, 1, 2), dtype=np.float64)
    means = [(sums[name] / len(images)).astype(np.float32) for name in relus]
    return {
        conv: np.where(mean > 0, mean, np.float32(1))
        for conv, mean in zip(convs, means, strict=True)
    }
