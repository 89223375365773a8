"""Examples at the size that is fed: from memory, or decoded, rescaled and cropped one at a time."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np

from vgg_jax.data.arrays import IN_MEMORY_BYTES, ArraySource
from vgg_jax.data.preprocessing import resized_crop
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError
from vgg_jax.rng import CROP, generator

_ATTEMPTS = 16  # examples in a row that cannot be decoded are no accident


class Examples(Protocol):
    """Images of one size by index.

    Attributes:
      workers: number of processes that decoding is worth; 0 if there is none to do.
    """

    workers: int

    def take(self, indices: np.ndarray, positions: np.ndarray) -> "Taken":
        """Returns examples.

        Args:
          indices: int64 (n,), which examples of the source.
          positions: int64 (n,), their places in the stream: the key of what is random.
        """
        ...


class Taken(NamedTuple):
    """Some examples.

    Attributes:
      images: uint8 (n, size, size, 3).
      labels: int32 (n,).
      unreadable: int64 (k,), indices of examples that another one stands for; with
        `data.on_error="skip"` alone.
    """

    images: np.ndarray
    labels: np.ndarray
    unreadable: np.ndarray


def scale_cropped(source: Source, data: Any, seed: int) -> Examples:
    """Rescales each example to a random S of `data.scale`, crops at random (VGG, section 3.1)."""
    load = functools.partial(_scale_crop, seed, data.scale, data.image_size)
    return _Decoded(source, load, data, skip=data.on_error == "skip")


def eval_resize(source: Source, data: Any) -> int:
    """Returns the shortest side in pixels that the centre `data.image_size` is cropped out of.

    It is `data.eval_resize`; for a source in memory `data.image_size`, so that the whole image is
    fed, unless the network is trained on crops of a rescaled image.

    Raises:
      UserError: `data.eval_resize` is below the crop.
    """
    if isinstance(source, ArraySource) and data.augment != "scale_crop":
        return data.image_size
    if data.eval_resize < data.image_size:
        raise UserError(
            f"data.eval_resize={data.eval_resize} is below data.image_size={data.image_size}: "
            f"give --config.data.eval_resize={data.image_size} or more"
        )
    return data.eval_resize


def center_cropped(source: Source, data: Any, *, skip: bool = False) -> Examples:
    """Rescales each example to `eval_resize` and crops its centre.

    Args:
      source: the examples.
      data: `config.data`.
      skip: lets the next example stand for one that cannot be decoded.
    """
    size, resize = data.image_size, eval_resize(source, data)
    decoded = _Decoded(source, functools.partial(_center_crop, resize, size), data, skip=skip)
    if not isinstance(source, ArraySource) or data.augment == "scale_crop":
        return decoded
    if source.images.shape[1:3] == (size, size):
        return InMemory(source.images, source.labels)
    if len(source) * size * size * 3 > IN_MEMORY_BYTES:
        return decoded
    everything = np.arange(len(source))
    taken = decoded.take(everything, everything)
    return InMemory(taken.images, taken.labels)


class InMemory:
    """Examples at the size that is fed: uint8 (N, size, size, 3) and int32 (N,)."""

    workers = 0

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = images
        self.labels = labels

    def take(self, indices: np.ndarray, positions: np.ndarray) -> Taken:
        return Taken(self.images[indices], self.labels[indices], np.empty(0, np.int64))


class _Decoded:
    def __init__(
        self,
        source: Source,
        load: Callable[[Source, int, int], tuple[np.ndarray, int]],
        data: Any,
        *,
        skip: bool,
    ) -> None:
        self.workers = data.workers
        self._source = source
        self._load = load
        self._size = data.image_size
        self._attempts = _ATTEMPTS if skip else 1

    def take(self, indices: np.ndarray, positions: np.ndarray) -> Taken:
        images = np.empty((len(indices), self._size, self._size, 3), np.uint8)
        labels = np.empty(len(indices), np.int32)
        unreadable: list[int] = []

        def load(place: int) -> None:
            for attempt in range(1, self._attempts + 1):
                index = int(indices[place] + attempt - 1) % len(self._source)
                try:
                    images[place], labels[place] = self._load(
                        self._source, index, int(positions[place])
                    )
                    return
                except UserError:
                    if attempt == self._attempts:
                        raise
                    unreadable.append(index)

        run = map if self.workers else _threads().map
        list(run(load, range(len(indices))))
        wrong = (labels < 0) | (labels >= len(self._source.class_names))
        if wrong.any():
            raise UserError(
                f"example {indices[wrong][0]} has label {labels[wrong][0]}, but the data set has "
                f"{len(self._source.class_names)} classes: fix the labels"
            )
        return Taken(images, labels, np.unique(np.array(unreadable, np.int64)))


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="decode")


def _center_crop(
    resize: int, size: int, source: Source, index: int, position: int
) -> tuple[np.ndarray, int]:
    image, label = source.load(index)
    return resized_crop(image, resize, size), label


def _scale_crop(
    seed: int, scale: tuple[int, int], size: int, source: Source, index: int, position: int
) -> tuple[np.ndarray, int]:
    random = generator(CROP, seed, position)
    shortest = int(random.integers(scale[0], scale[1], endpoint=True))
    vertical, horizontal = random.random(2)
    image, label = source.load(index, min_side=shortest)
    return resized_crop(image, shortest, size, (vertical, horizontal)), label
