"""Where a network looks: saliency maps and Grad-CAM, as arrays and as a picture."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vgg_jax.data.preprocessing import Encoded, Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights

COLORS = "inferno"
CAPTION = 0.09  # height of the captions, of the picture's
GAP = 4  # pixels between pictures


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What speaks for a class in a photo.

    Attributes:
      photo: uint8 (H, W, 3) RGB, the crop that the network is fed.
      label: the class.
      name: its name.
      probability: what the network gives it.
      saliency: float32 (H, W), at least 0: how much the class's score changes with a grey level
        of the pixel, the channel that changes it most.
      grad_cam: float32 (h, w), at least 0, of the last convolution's map: how much its features
        speak for the class.
    """

    photo: np.ndarray
    label: int
    name: str
    probability: float
    saliency: np.ndarray
    grad_cam: np.ndarray

    def picture(self) -> Image.Image:
        """Draws photo, saliency and Grad-CAM (over the photo) side by side, with captions.

        Each map is scaled to its own maximum; of the saliency, to its 99.5th percentile.
        """
        height, width = self.photo.shape[:2]
        tall = Image.fromarray(self.grad_cam).resize((width, height), Image.Resampling.BICUBIC)
        heat = _colored(np.asarray(tall), float(self.grad_cam.max()))
        panels = {
            f"{self.name} {self.probability:.0%}": self.photo,
            "saliency": _colored(self.saliency, float(np.percentile(self.saliency, 99.5))),
            "Grad-CAM": ((self.photo.astype(np.float32) + heat) / 2).astype(np.uint8),
        }
        top = round(CAPTION * height)
        size = (3 * width + 2 * GAP, top + height)
        canvas = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(canvas)
        font = ImageFont.load_default(top * 0.75)
        for index, (caption, panel) in enumerate(panels.items()):
            left = index * (width + GAP)
            while draw.textlength(caption, font) > width and len(caption) > 1:
                caption = caption[:-2] + "…"
            draw.text((left, 0), caption, "black", font)
            canvas.paste(Image.fromarray(panel), (left, top))
        return canvas


def explain(
    weights: Weights, image: Encoded | np.ndarray, *, label: int | None = None
) -> Explanation:
    """Shows what in a photo speaks for a class.

    Saliency: Simonyan, Vedaldi & Zisserman (2014), arXiv 1312.6034, section 3: the largest
    absolute gradient over the channels, of the class's logit. Grad-CAM: Selvaraju et al. (2017),
    arXiv 1610.02391: the activations of the last convolution, weighted by the logit's mean
    gradient, negative sums cut off.

    Args:
      weights: from `load_weights`.
      image: path or contents of an image file, or uint8 (H, W, 3) RGB or (H, W) grey; its centre
        crop is taken.
      label: the class to speak for; by default the most probable one.

    Returns:
      The class with its probability, the crop, and both maps; `picture()` draws them.

    Raises:
      UserError: the image cannot be read, or there is no such class.
    """
    classes = len(weights.class_names)
    if label is not None and not 0 <= label < classes:
        raise UserError(f"label={label}: give one of the {classes} classes, 0 to {classes - 1}")
    photo = weights.preprocessing.load(image)
    label_, probability, saliency, grad_cam = _explain(
        weights.variables,
        photo,
        label,
        model=weights.model,
        preprocessing=weights.preprocessing,
    )
    return Explanation(
        photo,
        int(label_),
        weights.class_names[int(label_)],
        float(probability),
        np.asarray(saliency),
        np.asarray(grad_cam),
    )


@functools.partial(jax.jit, static_argnames=("model", "preprocessing"))
def _explain(
    variables: dict,
    photo: jax.Array,
    label: int | None,
    *,
    model: VGG,
    preprocessing: Preprocessing,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Maps uint8 (H, W, 3) to class, probability, saliency (H, W) and Grad-CAM (h, w)."""
    pixels = photo[None].astype(jnp.float32)
    last = f"relu{len(model.conv_stages)}_{len(model.conv_stages[-1])}"

    def scores(pixels: jax.Array, shift: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        logits, endpoints = model.apply(
            variables,
            preprocessing.normalize(pixels),
            perturbations={} if shift is None else {last: shift},
        )
        return logits[0], endpoints[last]

    _, shape = jax.eval_shape(scores, pixels, None)
    logits, pull_back, features = jax.vjp(
        scores, pixels, jnp.zeros(shape.shape, shape.dtype), has_aux=True
    )
    chosen = jnp.argmax(logits) if label is None else jnp.asarray(label)
    by_pixel, by_feature = pull_back(jax.nn.one_hot(chosen, len(logits)))
    importance = by_feature.mean((1, 2), keepdims=True)
    grad_cam = jax.nn.relu(jnp.sum(importance * features, -1))
    saliency = jnp.abs(by_pixel).max(-1)
    return chosen, jax.nn.softmax(logits)[chosen], saliency[0], grad_cam[0]


def _colored(values: np.ndarray, largest: float) -> np.ndarray:
    """Maps (H, W), 0 to `largest`, to the uint8 (H, W, 3) of the colour map."""
    scaled = np.clip(values / largest if largest > 0 else values, 0, 1)
    return matplotlib.colormaps[COLORS](scaled, bytes=True)[..., :3]
