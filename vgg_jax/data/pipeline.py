"""From a step's number to its batch: which examples, in which order, on which process.

The stream of training examples is one sequence of positions p = step * B + i. Position p belongs to
epoch p // N and is example permutation(seed, epoch)[p % N]: every example comes exactly once an
epoch, also where B does not divide N, and any step's batch is found without those before it.
"""

import functools
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from vgg_jax.data.preprocessing import center_crop, resize_shortest
from vgg_jax.data.sources import ArraySource, Source
from vgg_jax.errors import UserError

Batch = dict[str, np.ndarray]

_PREFETCHED_BATCHES = 2


@functools.lru_cache(maxsize=4)
def epoch_permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """Returns the order of the examples in an epoch: int64 (size,)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(size)


def _local_slice(batch_size: int, process_index: int, process_count: int) -> slice:
    if batch_size % process_count:
        raise UserError(
            f"batch size {batch_size} is not divisible by {process_count} processes: "
            f"give {batch_size // process_count * process_count or process_count}"
        )
    local = batch_size // process_count
    return slice(process_index * local, (process_index + 1) * local)


class TrainPipeline:
    """Training batches of this process as a function of the step."""

    def __init__(
        self,
        source: Source,
        data: Any,
        *,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        self._seed = seed
        self._batch_size = data.batch_size
        self._slice = _local_slice(data.batch_size, process_index, process_count)
        self._examples = _Resized(source, data.image_size)
        self.num_examples = len(source)
        self.batches_per_epoch = len(source) / data.batch_size

    def indices(self, step: int) -> np.ndarray:
        """Returns the indices of this process's examples at a step: int64 (B_local,)."""
        positions = step * self._batch_size + np.arange(self._slice.start, self._slice.stop)
        epochs, offsets = np.divmod(positions, self.num_examples)
        indices = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs):
            permutation = epoch_permutation(self._seed, int(epoch), self.num_examples)
            indices[epochs == epoch] = permutation[offsets[epochs == epoch]]
        return indices

    def batch(self, step: int) -> Batch:
        """Returns {"image": uint8 (B_local, h, w, 3), "label": int32, "mask": bool (B_local,)}."""
        indices = self.indices(step)
        images, labels = self._examples.take(indices)
        return {"image": images, "label": labels, "mask": np.ones(len(indices), bool)}

    def iterate(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Yields the batches of steps [start_step, stop_step), prefetched on a thread."""
        return _prefetched(self.batch(step) for step in range(start_step, stop_step))


class EvalPipeline:
    """Every example once, in order, in batches of one size with a mask over the padding."""

    def __init__(
        self,
        source: Source,
        data: Any,
        *,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        self._batch_size = batch_size
        self._slice = _local_slice(batch_size, process_index, process_count)
        self._examples = _Resized(source, data.image_size)
        self.num_examples = len(source)

    def __len__(self) -> int:
        """Returns the number of batches, the same for every process."""
        return -(-self.num_examples // self._batch_size)

    def batch(self, index: int) -> Batch:
        """Returns batch `index` of this process; padding repeats example 0 with mask False."""
        indices = index * self._batch_size + np.arange(self._slice.start, self._slice.stop)
        mask = indices < self.num_examples
        images, labels = self._examples.take(np.where(mask, indices, 0))
        return {"image": images, "label": labels, "mask": mask}

    def __iter__(self) -> Iterator[Batch]:
        return _prefetched(self.batch(index) for index in range(len(self)))


class _Resized:
    """An in-memory source at the size that is fed."""

    def __init__(self, source: Source, size: int) -> None:
        assert isinstance(source, ArraySource)
        self._images, self._labels = source.images, source.labels
        if self._images.shape[1:3] != (size, size):
            self._images = np.stack(
                [center_crop(resize_shortest(image, size), size) for image in self._images]
            )

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._images[indices], self._labels[indices]


def _prefetched(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields from an iterator that a thread runs ahead of; closing it ends the thread."""
    ready: queue.Queue[Any] = queue.Queue(_PREFETCHED_BATCHES)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put((batch, None)):
                    return
            put((None, None))
        except BaseException as error:  # handed over: the consumer raises it
            put((None, error))

    thread = threading.Thread(target=work, daemon=True, name="data-prefetch")
    thread.start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            if batch is None:
                return
            yield batch
    finally:
        stopped.set()
        thread.join()
