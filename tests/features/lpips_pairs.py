"""Pairs of pictures and random convolutions for the goldens of LPIPS. NumPy and Pillow alone.

`tests/goldens/write_lpips.py` gives them to the authors' program.
"""

from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 50
SIDE = 64  # of photos, in pixels: Zhang et al. judge patches of this size
CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def random_convolutions() -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernels (3, 3, in, out) and biases of VGG-16's width, float32."""
    rng = np.random.default_rng(16)
    found = []
    for before, after in zip((3, *CHANNELS), CHANNELS, strict=False):
        kernel = rng.standard_normal((3, 3, before, after), np.float32)
        bias = rng.standard_normal(after, np.float32)
        found.append((kernel * np.float32((2 / (9 * before)) ** 0.5), bias / 10))
    return found


def synthetic_pairs() -> tuple[np.ndarray, np.ndarray]:
    """Coarse blocks, and the same with noise; uint8 (50, 32, 48, 3) each."""
    rng = np.random.default_rng(50)
    first = rng.integers(0, 256, (COUNT, 8, 12, 3)).repeat(4, 1).repeat(4, 2)
    strength = np.linspace(2, 100, COUNT).astype(int).reshape(-1, 1, 1, 1)
    noise = rng.integers(-100, 101, first.shape) * strength // 100
    return first.astype(np.uint8), np.clip(first + noise, 0, 255).astype(np.uint8)


def photo_pairs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The middle of 50 photos, and in turn: moved, with noise, in blocks, another photo."""
    files = sorted((folder / "photos").rglob("*.jpg"))[: COUNT + 1]
    pixels = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    rng = np.random.default_rng(0)
    pairs = []
    for index, photo in enumerate(pixels[:COUNT]):
        top, left = (length // 2 - SIDE // 2 for length in photo.shape[:2])
        crop = photo[top : top + SIDE, left : left + SIDE]
        others = (
            photo[top : top + SIDE, left + 2 : left + 2 + SIDE],
            np.clip(crop + rng.integers(-40, 41, crop.shape), 0, 255).astype(np.uint8),
            crop[::2, ::2].repeat(2, 0).repeat(2, 1),
            pixels[index + 1][:SIDE, :SIDE],
        )
        pairs.append((crop, others[index % 4]))
    first, second = zip(*pairs, strict=True)
    return np.stack(first), np.stack(second)


def fingerprint(*arrays: np.ndarray) -> float:
    """A weighted sum, to notice that a generator or a decoder gives other values than it did."""
    parts = (array.astype(np.float64).ravel() for array in arrays)
    return float(sum(part @ np.cos(np.arange(part.size)) for part in parts))
