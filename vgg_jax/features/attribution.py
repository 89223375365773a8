"""Which pixels and which positions speak for a class: maps of one image, by four methods.

    saliency   Simonyan, Vedaldi & Zisserman (2013), arXiv 1312.6034, section 3
    guided     guided backpropagation, Springenberg et al. (2015), arXiv 1412.6806, section 3.4
    grad_cam   Selvaraju et al. (2017), arXiv 1610.02391, section 3
    occlusion  Zeiler & Fergus (2014), arXiv 1311.2901, section 4.2

The first three differentiate the class's logit, the last one covers a part of the image at a time.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.models import VGG

GRADIENT_METHODS = ("saliency", "guided", "grad_cam")
METHODS = (*GRADIENT_METHODS, "occlusion")

# Of the image's side: 224 pixels are covered by squares of 32, 24 pixels apart.
PATCH, STRIDE = 32 / 224, 24 / 224
BATCH_SIZE = 10


@functools.partial(jax.jit, static_argnames=("model", "preprocessing", "methods"))
def gradient_maps(
    variables: dict,
    images: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    methods: tuple[str, ...] = GRADIENT_METHODS,
) -> dict[str, jax.Array]:
    """Computes the maps that come from gradients: saliency and Grad-CAM from the same pass.

    Args:
      variables: of the network.
      images: RGB of 0..255, uint8 or float (N, H, W, 3).
      labels: int (N,), the class to speak for.
      model: the network; with a ReLU for "guided".
      preprocessing: of its weights.
      methods: of `GRADIENT_METHODS`.

    Returns:
      By method, float32 and at least 0: (N, H, W), the largest absolute gradient over the channels
      of a pixel, per grey level; of "grad_cam" (N, h, w), of the last convolution's map.

    Raises:
      UserError: the images are too small, or "guided" for a network without ReLU.
    """
    pixels = jnp.asarray(images, jnp.float32)
    found = {}
    if "saliency" in methods or "grad_cam" in methods:
        by_pixel, by_feature, features = _gradients(variables, pixels, labels, model, preprocessing)
        found["saliency"] = largest_channel(by_pixel)
        found["grad_cam"] = grad_cam(by_feature, features)
    if "guided" in methods:
        guided = model.clone(guided=True)
        by_pixel, _, _ = _gradients(variables, pixels, labels, guided, preprocessing)
        found["guided"] = largest_channel(by_pixel)
    return {method: found[method] for method in methods}


def _gradients(
    variables: dict,
    pixels: jax.Array,
    labels: jax.Array | np.ndarray,
    model: VGG,
    preprocessing: Preprocessing,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the logit's gradients by pixel and by the last activation, and that activation."""
    last = f"relu{len(model.conv_stages)}_{len(model.conv_stages[-1])}"

    def scores(pixels: jax.Array, shift: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        logits, endpoints = model.apply(
            variables,
            preprocessing.normalize(pixels),
            perturbations={} if shift is None else {last: shift},
        )
        return logits, endpoints[last]

    _, shape = jax.eval_shape(scores, pixels, None)
    shift = jnp.zeros(shape.shape, shape.dtype)
    logits, pull_back, features = jax.vjp(scores, pixels, shift, has_aux=True)
    by_pixel, by_feature = pull_back(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype))
    return by_pixel, by_feature.astype(jnp.float32), features.astype(jnp.float32)


def largest_channel(gradient: jax.Array) -> jax.Array:
    """Maps (..., 3) to the largest absolute value of the channels, (...)."""
    return jnp.abs(gradient).max(-1)


def grad_cam(gradient: jax.Array, features: jax.Array) -> jax.Array:
    """Weights each channel by its mean gradient; the sum over channels, negative values cut off.

    Args:
      gradient: of the class's logit by `features`, (N, h, w, C).
      features: (N, h, w, C).

    Returns:
      (N, h, w), at least 0.
    """
    importance = gradient.mean((1, 2), keepdims=True)
    return jax.nn.relu(jnp.sum(importance * features, -1))


def occlusion(
    score: Callable[[np.ndarray], np.ndarray | jax.Array],
    image: np.ndarray,
    *,
    fill: np.ndarray,
    patch: int,
    stride: int,
    batch_size: int = BATCH_SIZE,
) -> np.ndarray:
    """Covers one square of an image after the other and records how much the score falls.

    Args:
      score: maps (batch_size, H, W, 3) of the image's dtype to (batch_size,).
      image: (H, W, 3).
      fill: colour of the square, (3,); the paper's is grey.
      patch: side of the square, pixels.
      stride: pixels from one square to the next. The last one of a line ends at or before the
        border; what the squares leave uncovered is the same on both sides, within a pixel.
      batch_size: images at a time; the last batch repeats its first image to be full.

    Returns:
      float32 (rows, columns): the image's score minus that of the covered image, by place of the
      square. Negative where covering helps the class.
    """
    starts = [
        np.arange((side - patch) % stride // 2, side - patch + 1, stride)
        for side in image.shape[:2]
    ]
    corners = [(row, column) for row in starts[0] for column in starts[1]]
    covered = [image, *(_covered(image, *corner, patch, fill) for corner in corners)]
    scores = []
    for start in range(0, len(covered), batch_size):
        part = covered[start : start + batch_size]
        full = part + part[:1] * (batch_size - len(part))
        scores.append(np.asarray(score(np.stack(full)), np.float32)[: len(part)])
    whole, *others = np.concatenate(scores)
    return (whole - np.array(others)).reshape(len(starts[0]), len(starts[1]))


def _covered(image: np.ndarray, row: int, column: int, patch: int, fill: np.ndarray) -> np.ndarray:
    copy = image.copy()
    copy[row : row + patch, column : column + patch] = fill
    return copy


@functools.partial(jax.jit, static_argnames=("model", "preprocessing"))
def probabilities(
    variables: dict,
    images: jax.Array | np.ndarray,
    *,
    model: VGG,
    preprocessing: Preprocessing,
) -> jax.Array:
    """Maps RGB of 0..255, (N, H, W, 3), to the probabilities of the classes, float32 (N, K)."""
    logits, _ = model.apply(variables, preprocessing.normalize(jnp.asarray(images)))
    return jax.nn.softmax(logits)


def occlusion_map(
    variables: dict,
    image: np.ndarray,
    label: int,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    stride: float = STRIDE,
) -> np.ndarray:
    """Covers an image with squares of its mean colour, a seventh of its side wide.

    Args:
      variables: of the network.
      image: uint8 (H, W, 3) RGB.
      label: the class.
      model: the network.
      preprocessing: of its weights.
      stride: from one square to the next, as a share of the image's shorter side.

    Returns:
      float32 (rows, columns): how much the class's probability falls, by place of the square;
      9 x 9 for a square image.
    """
    side = min(image.shape[:2])

    def score(pictures: np.ndarray) -> jax.Array:
        named = {"model": model, "preprocessing": preprocessing}
        return probabilities(variables, pictures, **named)[:, label]

    return occlusion(
        score,
        image,
        fill=image.mean((0, 1)).astype(image.dtype),
        patch=max(1, round(PATCH * side)),
        stride=max(1, round(stride * side)),
    )
