"""From an image file to the array a network is fed: decode, resize, crop, normalise.

Pillow does the work on the host: its bilinear resampling is antialiased (the kernel widens as the
image shrinks), as published weights expect, and computes only the pixels that a crop keeps.
`experiments/input_pipeline` has the measurements.
"""

import dataclasses
import io
import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vgg_jax.errors import UserError, quoted, unknown_name

Encoded = bytes | str | PathLike[str]

CHANNEL_ORDERS = ("BGR", "RGB")
MAX_SIDE = 2**14  # pixels that an image is resized to


def open_image(
    encoded: Encoded, *, min_side: int | None = None, name: str | None = None
) -> Image.Image:
    """Decodes an image file to RGB.

    Grey becomes RGB, an alpha channel is dropped, 16 bits become 8, CMYK is converted, and the
    EXIF orientation is applied.

    Args:
      encoded: the path of a file, or its contents.
      min_side: if given, a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both
        sides keep that many pixels. Quicker, and not quite the same pixels after a resize.
      name: what to call the image in an error; by default its path.

    Raises:
      UserError: the file is missing, or no image that can be decoded whole.
    """
    if isinstance(encoded, bytes):
        file: io.BytesIO | Path = io.BytesIO(encoded)
    else:
        file = Path(encoded)
    name = name or (str(encoded) if isinstance(file, Path) else "the image")
    try:
        with Image.open(file) as image:
            if min_side is not None:
                image.draft(None, (min_side, min_side))
            return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is no image that can be decoded: replace or remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read {name}: {error}; replace or remove it") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # Pillow clips when it converts these itself
        values = np.asarray(image, np.float32)
        grey = np.round(np.clip(values / 257, 0, 255)).astype(np.uint8)
        image = Image.fromarray(grey)
    return image if image.mode == "RGB" else image.convert("RGB")


def decode_image(encoded: Encoded) -> np.ndarray:
    """Decodes an image file as `open_image` does, to uint8 (H, W, 3) RGB."""
    return np.array(open_image(encoded))


def check_several(images: Sequence[Encoded | np.ndarray] | np.ndarray) -> None:
    """Checks that what should be several images is no single one.

    Raises:
      UserError: it is the path or the contents of a file; or an array that is neither uint8
        (N, H, W, 3) nor (N, H, W).
    """
    if isinstance(images, str | bytes | PathLike):
        name = "the contents of a file" if isinstance(images, bytes) else quoted(images)
        raise UserError(f"{name} is one image: give a list of images")
    if isinstance(images, np.ndarray):
        is_grey = images.ndim == 3 and images.shape[2] != 3  # which would be one RGB image
        if images.dtype != np.uint8 or not (is_grey or images.shape[3:] == (3,)):
            raise UserError(
                f"an array of {images.dtype} {images.shape} is no batch of images: "
                "give uint8 (N, H, W, 3), RGB, or (N, H, W), grey"
            )


def scaled_size(width: int, height: int, shortest: int) -> tuple[int, int]:
    """Returns (width, height) scaled isotropically, so that the shortest is `shortest`."""
    scale = shortest / min(width, height)
    return round(width * scale), round(height * scale)


def resize_shortest(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes isotropically, by antialiased bilinear interpolation.

    Args:
      image: uint8 (H, W, 3).
      size: pixels of the shortest side afterwards.
    """
    picture = Image.fromarray(image)
    return np.array(picture.resize(scaled_size(*picture.size, size), Image.Resampling.BILINEAR))


def resized_crop(
    image: Image.Image, shortest: int, size: int, position: tuple[float, float] | None = None
) -> np.ndarray:
    """Resizes isotropically and crops a square, computing the square's pixels only.

    Args:
      image: an RGB image.
      shortest: pixels of the shortest side after resizing.
      size: pixels of a side of the square, at most `shortest`.
      position: (vertical, horizontal) in [0, 1), which of the possible offsets the square has;
        None for the centre.

    Returns:
      uint8 (size, size, 3).
    """
    width, height = scaled_size(*image.size, shortest)
    if position is None:
        top, left = (height - size) // 2, (width - size) // 2
    else:
        top = int(position[0] * (height - size + 1))
        left = int(position[1] * (width - size + 1))
    x_scale, y_scale = image.width / width, image.height / height
    box = (left * x_scale, top * y_scale, (left + size) * x_scale, (top + size) * y_scale)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def normalize(
    images: jax.Array, mean: Sequence[float], std: Sequence[float], channel_order: str = "RGB"
) -> jax.Array:
    """Returns float32 (images - mean) / std by channel, all three in `channel_order`.

    Args:
      images: RGB (..., 3).
      mean: of each channel.
      std: of each channel.
      channel_order: "RGB", or "BGR", into which images are turned.
    """
    images = images if channel_order == "RGB" else images[..., ::-1]
    per_channel = (1,) * (images.ndim - 1) + (3,)
    centred = images.astype(jnp.float32) - jnp.asarray(mean, jnp.float32).reshape(per_channel)
    return centred / jnp.asarray(std, jnp.float32).reshape(per_channel)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network; stored with weights as their metadata.

    Attributes:
      resize: pixels of the shortest side before the crop.
      crop: pixels of a side of the central square that is fed.
      mean: subtracted from each channel after `scale`, in `channel_order`.
      std: divides each channel after `mean`, in `channel_order`.
      channel_order: "RGB" or "BGR", the order fed.
      scale: multiplies the pixel values 0..255 before all else.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: str = "RGB"
    scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # lists, if they come from JSON
            values = tuple(getattr(self, name))
            object.__setattr__(self, name, values)
            if len(values) != 3 or not all(math.isfinite(value) for value in values):
                raise UserError(f"{name}={quoted(values)} must be three finite numbers")
        if min(self.std) <= 0 or not 0 < self.scale < math.inf:
            raise UserError(f"std={self.std} and scale={self.scale} must be above 0")
        if not self.crop >= 1 or not self.resize <= MAX_SIDE:
            raise UserError(
                f"crop={self.crop} and resize={self.resize} must be from 1 to {MAX_SIDE} pixels"
            )
        if self.crop > self.resize:
            raise UserError(
                f"cannot crop {self.crop} pixels out of an image resized to {self.resize}: "
                f"give a resize of {self.crop} or more"
            )
        if self.channel_order not in CHANNEL_ORDERS:
            raise unknown_name("channel order", self.channel_order, CHANNEL_ORDERS)

    def load(self, image: Encoded | np.ndarray) -> np.ndarray:
        """Resizes and crops an image to uint8 (crop, crop, 3) RGB.

        Args:
          image: a file, by path or contents, that `open_image` reads; or uint8 (H, W, 3) RGB or
            (H, W) grey.

        Raises:
          UserError: the file cannot be read, or the array is of another kind.
        """
        if not isinstance(image, np.ndarray):
            return resized_crop(open_image(image), self.resize, self.crop)
        if image.dtype != np.uint8 or not (image.ndim == 2 or image.shape[2:] == (3,)):
            raise UserError(
                f"an array of {image.dtype} {image.shape} is no image: give uint8 (H, W, 3), RGB, "
                "or (H, W), grey"
            )
        return resized_crop(_to_rgb(Image.fromarray(image)), self.resize, self.crop)

    def normalize(self, images: jax.Array) -> jax.Array:
        """Maps RGB (..., 3), uint8 or float of 0..255, to the float32 that the network is fed."""
        scaled = images.astype(jnp.float32) * self.scale
        return normalize(scaled, self.mean, self.std, self.channel_order)
