"""Features of the photos, a file per photo and scale: what was computed is not computed again."""

import hashlib
import os
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vgg_jax.cli import show_progress
from vgg_jax.data.arrays import Subset
from vgg_jax.data.caltech101 import Caltech101
from vgg_jax.errors import UserError
from vgg_jax.evaluation.protocols import ViewSpec, dense_shape
from vgg_jax.features.extractor import endpoint_shape
from vgg_jax.features.linear_probe import pooled_endpoints
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights

ENDPOINTS = ("pool1", "pool2", "pool3", "pool4", "pool5", "relu6", "relu7")
BATCH_PIXELS = 8 * 256**2  # of a batch: fits in memory, and keeps two cores busy


class Cache:
    """Features of the photos of an archive by one network, as float16 files.

    Each file has all endpoints of a photo at a scale side by side, averaged over positions and
    over the photo and its mirror image. Another network, other photos or other endpoints have
    another folder.
    """

    def __init__(self, folder: Path, weights_file: Path, photos: Caltech101) -> None:
        """Opens the cache, without creating it.

        Args:
          folder: of all caches.
          weights_file: of the network.
          photos: all of the archive.
        """
        with weights_file.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        digest.update(repr((ENDPOINTS, _checksums(photos))).encode())
        self.folder = folder / digest.hexdigest()[:16]
        self.photos = photos

    def path(self, scale: int, file: str) -> Path:
        """Returns the path of a photo's features at a scale."""
        return (self.folder / str(scale) / file).with_suffix(".npy")

    def missing(self, scale: int, files: Iterable[str]) -> list[str]:
        """Returns the photos whose features at a scale are not there yet."""
        return [file for file in files if not self.path(scale, file).exists()]

    def save(self, scale: int, file: str, features: np.ndarray) -> None:
        """Writes a photo's features (D,) so that a kill leaves the whole file or none."""
        path = self.path(scale, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as opened:
            np.save(opened, _half(features))
        partial.replace(path)

    def read(self, scale: int, files: Sequence[str]) -> np.ndarray:
        """Returns the features of photos at a scale, float32 (N, D).

        Raises:
          UserError: a file is damaged.
        """
        return np.stack([_load(self.path(scale, file)) for file in files]).astype(np.float32)


def columns(model: VGG) -> dict[str, slice]:
    """Returns where each endpoint is in a photo's features."""
    ends = np.cumsum([endpoint_shape(model, name)[-1] for name in ENDPOINTS])
    starts = [0, *ends[:-1]]
    return {
        name: slice(int(start), int(end))
        for name, start, end in zip(ENDPOINTS, starts, ends, strict=True)
    }


def compute(
    cache: Cache, weights: Weights, scale: int, files: Sequence[str], name: str
) -> dict[str, float]:
    """Computes the features of photos at a scale that are not there yet.

    Processes with one cache share the work: each goes through the photos in an order of its own,
    and passes by what another one has stored meanwhile.

    Args:
      cache: where they are stored, after every batch.
      weights: of the network.
      scale: shortest side in pixels.
      files: the photos.
      name: of this part, to print.

    Returns:
      {"scale", "photos" (computed now), "wall_seconds", "cpu_seconds"}.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    missing = cache.missing(scale, files)
    there = len(files) - len(missing)
    print(f"{name}, scale {scale}: {there} of {len(files)} photos are there", flush=True)
    batches = list(_batches(cache.photos, missing, scale, 2 ** len(weights.model.conv_stages)))
    computed = 0
    for number in show_progress(range(len(batches)), "group"):
        batch = batches[number]
        if not cache.missing(scale, batch):
            continue
        computed += len(batch)
        values, _ = pooled_endpoints(
            weights,
            Subset(cache.photos, np.array([cache.photos.files.index(file) for file in batch])),
            endpoints=ENDPOINTS,
            scale=scale,
            batch_size=BATCH_PIXELS // scale**2,
        )
        side_by_side = np.concatenate([values[name] for name in ENDPOINTS], 1)
        for file, features in zip(batch, side_by_side, strict=True):
            cache.save(scale, file, features)
    return {
        "scale": scale,
        "photos": computed,
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def _batches(
    photos: Caltech101, files: Sequence[str], scale: int, stride: int
) -> Iterator[list[str]]:
    """Yields photos whose views have one shape, a power of two of them while there are enough.

    The order of the batches is drawn, so that the time left is told from an average and processes
    do not meet.
    """
    by_shape: dict[tuple[int, int], list[str]] = {}
    for file in files:
        image, _ = photos.load(photos.files.index(file))
        shape = dense_shape(image.size, ViewSpec(scale, scale, stride))
        by_shape.setdefault(shape, []).append(file)
    batches = []
    for (height, width), members in by_shape.items():
        most = max(1, BATCH_PIXELS // (height * width))
        size = 1 << (most.bit_length() - 1)
        batches += [members[start : start + size] for start in range(0, len(members), size)]
    for index in np.random.default_rng(os.getpid()).permutation(len(batches)):
        yield batches[index]


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged: {error}; remove it and run again") from error


def _half(features: np.ndarray) -> np.ndarray:
    """Returns float16 features; their error, 2**-11, is below that of 8-bit weights."""
    highest = np.abs(features).max()
    if not highest <= np.finfo(np.float16).max:  # not for NaN either
        raise UserError(f"features of up to {highest:g} do not fit in float16")
    return features.astype(np.float16)


def _checksums(photos: Caltech101) -> list[tuple[str, int]]:
    with zipfile.ZipFile(photos.archive) as archive:
        return [(file, archive.getinfo(file).CRC) for file in sorted(photos.files)]
