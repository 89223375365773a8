"""What of an image a network is shown: sections 3.2 and 4 of Simonyan & Zisserman (2014).

    center      the central crop of the image at scale Q, once
    dense       the whole image at scale Q, and its mirror image
    multicrop   a regular 5x5 grid of crops over the image at scale Q, and their mirror images: 50
    both        the mean of dense and multicrop

Scale Q is the shortest side in pixels after isotropic resizing. Every view gives class
probabilities, the softmax of its spatially averaged score map; those of all views, scales and
networks are averaged.

Of the longer side, dense keeps what the score map has positions for: a multiple of the network's
stride (32), centred. That cuts at most 31 pixels in all, off an image which is not square, and
bounds the number of shapes, so of compilations, for any data set.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image

from vgg_jax.data.preprocessing import resize_shortest, resized_crop, scaled_size

GRID = 5


@dataclasses.dataclass(frozen=True)
class ViewSpec:
    """How views are cut.

    Attributes:
      scale: Q, pixels of the shortest side.
      crop: pixels of a side of the square that the network was made for.
      stride: pixels between positions of the score map.
    """

    scale: int
    crop: int
    stride: int


@dataclasses.dataclass(frozen=True)
class Part:
    """One way to look at an image.

    Attributes:
      views: (RGB image, spec) -> uint8 arrays (h, w, 3).
      count: number of views.
      mirrored: whether the mirror image of every view counts as much.
    """

    views: Callable[[Image.Image, ViewSpec], list[np.ndarray]]
    count: int
    mirrored: bool


def center_view(image: Image.Image, spec: ViewSpec) -> list[np.ndarray]:
    """Returns the central crop."""
    return [resized_crop(image, spec.scale, spec.crop)]


def dense_shape(size: tuple[int, int], spec: ViewSpec) -> tuple[int, int]:
    """Returns (height, width) of the dense view of an image of the size (width, height)."""
    width, height = (
        max(spec.scale, n // spec.stride * spec.stride) for n in scaled_size(*size, spec.scale)
    )
    return height, width


def dense_view(image: Image.Image, spec: ViewSpec) -> list[np.ndarray]:
    """Returns the whole image, but for what is beyond the last position of the score map."""
    whole = resize_shortest(np.asarray(image), spec.scale)
    height, width = dense_shape(image.size, spec)
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    return [whole[top : top + height, left : left + width]]


def grid_views(image: Image.Image, spec: ViewSpec) -> list[np.ndarray]:
    """Returns 25 crops whose corners divide the possible offsets evenly, row by row."""
    whole = resize_shortest(np.asarray(image), spec.scale)
    tops, lefts = (
        np.round(np.linspace(0, side - spec.crop, GRID)).astype(int) for side in whole.shape[:2]
    )
    return [whole[top : top + spec.crop, left : left + spec.crop] for top in tops for left in lefts]


_DENSE = Part(dense_view, 1, mirrored=True)
_MULTICROP = Part(grid_views, GRID**2, mirrored=True)
PROTOCOLS: dict[str, tuple[Part, ...]] = {
    "center": (Part(center_view, 1, mirrored=False),),
    "dense": (_DENSE,),
    "multicrop": (_MULTICROP,),
    "both": (_DENSE, _MULTICROP),
}
