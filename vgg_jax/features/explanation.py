"""What in a photo speaks for a class, as arrays and as a picture."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vgg_jax.data.preprocessing import Encoded
from vgg_jax.errors import UserError, unknown_name
from vgg_jax.features.attribution import (
    GRADIENT_METHODS,
    METHODS,
    gradient_maps,
    occlusion_map,
    probabilities,
)
from vgg_jax.weights.store import Weights

DEFAULT = ("saliency", "grad_cam")
CAPTIONS = {
    "saliency": "saliency",
    "guided": "guided backpropagation",
    "grad_cam": "Grad-CAM",
    "occlusion": "occlusion",
}
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
      maps: float32 by method. "saliency" and "guided" are (H, W) and at least 0: how much the
        class's score changes with a grey level of the pixel, the channel that changes it most.
        "grad_cam" is (h, w) and at least 0: how much the last convolution's features speak for the
        class. "occlusion" is (rows, columns): how much the class's probability falls if a square
        there is covered.
    """

    photo: np.ndarray
    label: int
    name: str
    probability: float
    maps: dict[str, np.ndarray]

    def panels(self) -> dict[str, np.ndarray]:
        """Returns the photo and a picture of each map by caption, uint8 (H, W, 3).

        Each map is scaled to its own maximum, one of pixels to its 99.5th percentile; one of
        positions is laid over the photo.
        """
        panels = {f"{self.name} {self.probability:.0%}": self.photo}
        for method, values in self.maps.items():
            if values.shape == self.photo.shape[:2]:
                heat = _colored(values, float(np.percentile(values, 99.5)))
            else:
                heat = self._over_photo(values)
            panels[CAPTIONS[method]] = heat
        return panels

    def _over_photo(self, values: np.ndarray) -> np.ndarray:
        height, width = self.photo.shape[:2]
        tall = Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)
        heat = _colored(np.asarray(tall), float(values.max()))
        return ((self.photo.astype(np.float32) + heat) / 2).astype(np.uint8)

    def picture(self) -> Image.Image:
        """Draws the photo and all maps side by side, with captions."""
        height, width = self.photo.shape[:2]
        panels = self.panels()
        top = round(CAPTION * height)
        size = (len(panels) * (width + GAP) - GAP, top + height)
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
    weights: Weights,
    image: Encoded | np.ndarray,
    *,
    label: int | None = None,
    methods: Sequence[str] = DEFAULT,
) -> Explanation:
    """Shows what in a photo speaks for a class.

    Args:
      weights: from `load_weights`.
      image: path or contents of an image file, or uint8 (H, W, 3) RGB or (H, W) grey; its centre
        crop is taken.
      label: the class to speak for; by default the most probable one.
      methods: of `attribution.METHODS`: "saliency", "guided" (ReLU networks alone), "grad_cam" and
        "occlusion", which evaluates the network 82 times.

    Returns:
      The class with its probability, the crop, and a map of each method; `picture()` draws them.

    Raises:
      UserError: the image cannot be read, or there is no such class or method.
    """
    classes = len(weights.class_names)
    if label is not None and not 0 <= label < classes:
        raise UserError(f"label={label}: give one of the {classes} classes, 0 to {classes - 1}")
    for method in methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
    photo = weights.preprocessing.load(image)
    named: dict[str, Any] = {"model": weights.model, "preprocessing": weights.preprocessing}
    found = np.asarray(probabilities(weights.variables, photo[None], **named)[0])
    label = int(found.argmax()) if label is None else label
    by_gradient = tuple(method for method in methods if method in GRADIENT_METHODS)
    labels = np.array([label])
    maps = gradient_maps(weights.variables, photo[None], labels, methods=by_gradient, **named)
    made = {method: np.asarray(values[0]) for method, values in maps.items()}
    if "occlusion" in methods:
        made["occlusion"] = occlusion_map(weights.variables, photo, label, **named)
    return Explanation(
        photo,
        label,
        weights.class_names[label],
        float(found[label]),
        {method: made[method] for method in methods},
    )


def _colored(values: np.ndarray, largest: float) -> np.ndarray:
    """Maps (H, W), 0 to `largest`, to the uint8 (H, W, 3) of the colour map."""
    scaled = np.clip(values / largest if largest > 0 else values, 0, 1)
    return matplotlib.colormaps[COLORS](scaled, bytes=True)[..., :3]
