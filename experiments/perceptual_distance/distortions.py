"""Photos spoiled in four ways, each at growing strength."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

SIDE = 64  # pixels of the patch that is judged
MARGIN = 16  # around it, so that nothing depends on its border
# In the order of what spoils more. Units: grey levels, pixels, JPEG's quality, pixels.
STRENGTHS = {
    "noise": (4, 8, 16, 32, 64),
    "blur": (0.5, 1, 2, 3, 4),
    "jpeg": (80, 40, 20, 10, 5),
    "shift": (1, 2, 4, 8, 16),
}
UNITS = {
    "noise": "noise, deviation [grey levels]",
    "blur": "blur, deviation [pixels]",
    "jpeg": "JPEG, quality",
    "shift": "shift [pixels]",
}


def patch(photo: np.ndarray) -> np.ndarray:
    """Returns the middle of a photo (H, W, 3) with its margin, uint8 (96, 96, 3)."""
    whole = SIDE + 2 * MARGIN
    top, left = ((length - whole) // 2 for length in photo.shape[:2])
    return photo[top : top + whole, left : left + whole]


def inner(pixels: np.ndarray, shift: int = 0) -> np.ndarray:
    """Cuts the margin off; the content moves `shift` pixels to the right."""
    left = MARGIN - shift
    return pixels[MARGIN : MARGIN + SIDE, left : left + SIDE]


def distort(
    pixels: np.ndarray, distortion: str, strength: float, seed: tuple[int, ...] = (0,)
) -> np.ndarray:
    """Spoils a patch with its margin; returns uint8 (64, 64, 3).

    Args:
      pixels: from `patch`.
      distortion: a key of `STRENGTHS`.
      strength: of it.
      seed: of the noise.
    """
    if distortion == "shift":
        return inner(pixels, int(strength))
    return inner(_SPOIL[distortion](pixels, strength, seed))


def _noise(pixels: np.ndarray, deviation: float, seed: tuple[int, ...]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, deviation, pixels.shape)
    return _rounded(pixels + noise)


def _blur(pixels: np.ndarray, deviation: float, _: Any) -> np.ndarray:
    return _rounded(gaussian_filter(pixels.astype(np.float64), (deviation, deviation, 0)))


def _jpeg(pixels: np.ndarray, quality: float, _: Any) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return np.asarray(Image.open(file))


_SPOIL: dict[str, Callable[[np.ndarray, float, Any], np.ndarray]] = {
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
}


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
