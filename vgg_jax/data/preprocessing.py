"""From an image file to the array a network is fed: decode, resize, crop, normalise."""

import dataclasses
from os import PathLike
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.errors import UserError

Encoded = bytes | str | PathLike[str]


def decode_image(encoded: Encoded) -> np.ndarray:
    """Decodes an image file to RGB.

    Grey becomes RGB, an alpha channel is dropped, 16 bits become 8, CMYK is converted, and the
    EXIF orientation is applied.

    Args:
      encoded: the path of a file, or its contents.

    Returns:
      uint8 (H, W, 3).

    Raises:
      UserError: the file is missing or no image that can be decoded.
    """
    if isinstance(encoded, bytes):
        name, contents = "an encoded image", encoded
    else:
        name = str(encoded)
        try:
            contents = Path(encoded).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {name}: {error.strerror}") from error
    image = None
    if contents:
        image = cv2.imdecode(np.frombuffer(contents, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise UserError(f"{name} is no image that can be decoded: remove or replace it")
    return image


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes an image by the filter named in `Preprocessing.resize_filter`."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0]
    return cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def resize_shortest(image: np.ndarray, size: int) -> np.ndarray:
    """Resizes isotropically so that the shortest side has `size` pixels."""
    height, width = image.shape[:2]
    shortest = min(height, width)
    return resize(image, round(height * size / shortest), round(width * size / shortest))


def center_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Cuts the central `size` x `size` pixels out of an image (H, W, 3) at least that large."""
    top = (image.shape[0] - size) // 2
    left = (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a network; stored with weights as their metadata.

    Attributes:
      resize: pixels of the shortest side before the crop.
      crop: pixels of a side of the central square that is fed.
      channel_order: "RGB" or "BGR", the order fed; `mean` and `std` are in this order.
      mean: subtracted from each channel, after `scale`.
      std: divides each channel, after `mean`.
      scale: multiplies the pixel values 0..255 before all else.
      resize_filter: name of the filter of `resize_shortest`.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channel_order: str = "RGB"
    scale: float = 1.0
    resize_filter: str = "area"

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Resizes and crops uint8 (H, W, 3) to uint8 (crop, crop, 3)."""
        return center_crop(resize_shortest(image, self.resize), self.crop)

    def normalize(self, images: jax.Array) -> jax.Array:
        """Maps uint8 or float RGB (..., 3) of 0..255 to the float32 that the network is fed."""
        if self.channel_order == "BGR":
            images = images[..., ::-1]
        values = images.astype(jnp.float32)
        if self.scale != 1.0:
            values = values * self.scale
        mean, std = jnp.asarray(self.mean, jnp.float32), jnp.asarray(self.std, jnp.float32)
        return (values - mean.reshape((1,) * (values.ndim - 1) + (3,))) / std.reshape(
            (1,) * (values.ndim - 1) + (3,)
        )
