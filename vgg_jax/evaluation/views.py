"""What functions say of every example, averaged over its views: batches by shape."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import jax
import numpy as np
from PIL import Image

from vgg_jax.data.source import Source
from vgg_jax.evaluation.protocols import Part, ViewSpec

_DECODED_AHEAD = 32

_View = tuple[int, float, np.ndarray]  # example, weight in its average, pixels
_Kind = tuple[tuple[int, ...], bool]  # shape, mirrored


class ViewFunction(Protocol):
    """Maps uint8 images (n, h, w, 3) to float32 (n, width), averaged with their mirror images."""

    def __call__(self, images: np.ndarray, *, mirrored: bool) -> jax.Array: ...


def view_averages(
    functions: Sequence[ViewFunction],
    width: int,
    source: Source,
    *,
    parts: Sequence[Part],
    specs: Sequence[ViewSpec],
    batch_size: int,
    progress: Callable[[range], Iterable[int]] = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of functions of every example's views, and its label, in order.

    Views wait until there are enough of one shape and go to the device together; what is left over
    at the end is padded to a power of two. So a shape is compiled for at most log2(batch_size) + 2
    batch sizes, and memory holds fewer than a batch of each shape beside the result.

    Args:
      functions: averaged over.
      width: values that each gives for a view.
      source: labelled images.
      parts: ways to look at an image, averaged over.
      specs: how views are cut, averaged over.
      batch_size: images of the first spec's crop at a time; of larger ones as many pixels.
      progress: wraps the examples' numbers as they are gone through.

    Returns:
      float32 (N, width), and int32 (N,), as the source counts its classes.

    Raises:
      UserError: an example that cannot be decoded.
    """
    result = _Averages(functions, (len(source), width), batch_size * specs[0].crop ** 2)
    labels = np.zeros(len(source), np.int32)
    examples = _decoded(source)
    for index in progress(range(len(source))):
        image, labels[index] = next(examples)
        for spec in specs:
            for part in parts:
                share = 1 / (len(specs) * len(parts) * part.count)
                for view in part.views(image, spec):
                    result.add(index, share, view, part.mirrored)
    result.finish()
    each = len(specs) * sum(part.count for part in parts)
    assert (result.shown == each).all(), f"not every example was shown {each} times"
    return result.sums, labels


class _Averages:
    """Adds up what the functions say of views, which it collects into batches of one shape.

    Attributes:
      sums: float32 (N, width).
      shown: int64 (N,), views added of each example.
    """

    def __init__(
        self, functions: Sequence[ViewFunction], shape: tuple[int, int], pixels: int
    ) -> None:
        self.sums = np.zeros(shape, np.float32)
        self.shown = np.zeros(shape[0], np.int64)
        self._functions = functions
        self._pixels = pixels
        self._waiting: dict[_Kind, list[_View]] = collections.defaultdict(list)
        self._running: tuple[list[_View], list[jax.Array]] | None = None

    def add(self, index: int, share: float, view: np.ndarray, mirrored: bool) -> None:
        """Takes a view (h, w, 3) of example `index`, whose weight in the average is `share`."""
        queue = self._waiting[view.shape, mirrored]
        queue.append((index, share, view))
        if len(queue) == self._limit(view.shape):
            self._launch(self._waiting.pop((view.shape, mirrored)), mirrored)

    def finish(self) -> None:
        """Works off what still waits."""
        for (_, mirrored), queue in self._waiting.items():
            self._launch(queue, mirrored)
        self._collect()

    def _limit(self, shape: tuple[int, ...]) -> int:
        return max(1, self._pixels // (shape[0] * shape[1]))

    def _launch(self, views: list[_View], mirrored: bool) -> None:
        shape = views[0][2].shape
        size = min(self._limit(shape), 1 << (len(views) - 1).bit_length())
        batch = np.zeros((size, *shape), np.uint8)
        batch[: len(views)] = [view for _, _, view in views]
        launched = [function(batch, mirrored=mirrored) for function in self._functions]
        self._collect()  # of the batch before, while this one is computed
        self._running = views, launched

    def _collect(self) -> None:
        if self._running is None:
            return
        views, launched = self._running
        indices = [index for index, _, _ in views]
        shares = np.array([share for _, share, _ in views], np.float32) / len(self._functions)
        for values in launched:
            np.add.at(self.sums, indices, np.asarray(values)[: len(views)] * shares[:, None])
        np.add.at(self.shown, indices, 1)
        self._running = None


def _decoded(source: Source) -> Iterator[tuple[Image.Image, int]]:
    """Yields every example in order, decoded ahead by threads."""
    with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
        indices = iter(range(len(source)))
        ahead = collections.deque(
            pool.submit(source.load, index) for index in itertools.islice(indices, _DECODED_AHEAD)
        )
        while ahead:
            example = ahead.popleft().result()
            ahead.extend(pool.submit(source.load, i) for i in itertools.islice(indices, 1))
            yield example
