"""From a step's number to its batch: which examples, in which order, on which process.

The stream of training examples is one sequence of positions p = step * B + i. Position p belongs to
epoch p // N and is example permutation(seed, epoch)[p % N]: every example comes exactly once an
epoch, also where B does not divide N, and any step's batch is found without those before it.
"""

import contextlib
import functools
from collections.abc import Generator
from typing import Any

import numpy as np
from absl import logging

from vgg_jax.data.crops import InMemory, center_cropped, eval_resize, scale_cropped
from vgg_jax.data.prefetch import Batch, prefetched
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError
from vgg_jax.rng import PERMUTATION, generator

MOST_SKIPPED = 0.01  # of the training examples, with data.on_error="skip"
ON_ERROR = ("raise", "skip")
_UNREADABLE = "unreadable"


@functools.lru_cache(maxsize=4)
def epoch_permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    """Returns the order of the examples in an epoch: int64 (size,), read-only."""
    permutation = generator(PERMUTATION, seed, epoch).permutation(size)
    permutation.flags.writeable = False
    return permutation


class TrainPipeline:
    """Training batches of this process as a function of the step.

    Attributes:
      num_examples: N, of the source.
      batches_per_epoch: N / B, not rounded.
      class_names: of the source.
      unreadable: indices of the examples that `iterate` met and that could not be decoded.
    """

    def __init__(
        self,
        source: Source,
        data: Any,
        *,
        seed: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        """Prepares the source.

        Args:
          source: the examples.
          data: `config.data`; read are `batch_size` (global), `image_size`, `augment`, `scale`,
            `eval_resize`, `workers` and `on_error`.
          seed: of the order of the examples and of their random crops on the host.
          process_index: which contiguous part of every global batch is this process's.
          process_count: number of parts.

        Raises:
          UserError: sizes that do not fit.
        """
        self.num_examples = len(source)
        self.batches_per_epoch = len(source) / data.batch_size
        self.class_names = source.class_names
        self.unreadable: set[int] = set()
        self._seed = seed
        self._batch_size = data.batch_size
        self._local = _local_part(data.batch_size, process_index, process_count)
        if data.augment == "scale_crop":
            self._examples = scale_cropped(source, data, seed)
        else:
            self._examples = center_cropped(source, data, skip=data.on_error == "skip")

    def positions(self, step: int) -> np.ndarray:
        """Returns the places of this process's examples in the stream: int64 (B_local,)."""
        return step * self._batch_size + self._local

    def indices(self, step: int) -> np.ndarray:
        """Returns the source's indices of this process's examples: int64 (B_local,)."""
        epochs, offsets = np.divmod(self.positions(step), self.num_examples)
        indices = np.empty_like(offsets)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            permutation = epoch_permutation(self._seed, int(epoch), self.num_examples)
            indices[here] = permutation[offsets[here]]
        return indices

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step.

        With `data.on_error="skip"` the next example of the source that can be decoded stands for
        one that cannot: a function of the step and the data, as all else.

        Returns:
          {"image": uint8 (B_local, image_size, image_size, 3), "label": int32 (B_local,), "mask":
          bool (B_local,), all True}.

        Raises:
          UserError: an example that cannot be decoded, named.
        """
        batch = self._batch(step)
        del batch[_UNREADABLE]
        return batch

    def _batch(self, step: int) -> Batch:
        taken = self._examples.take(self.indices(step), self.positions(step))
        mask = np.ones(len(taken.labels), bool)
        described = {"image": taken.images, "label": taken.labels, "mask": mask}
        return described | {_UNREADABLE: taken.unreadable}

    def in_memory(self) -> Batch:
        """Returns all N examples, {"image": uint8 (N, size, size, 3), "label": int32 (N,)}.

        Raises:
          UserError: they are decoded as they are needed.
        """
        if not isinstance(self._examples, InMemory):
            raise UserError(
                "parallel.steps_per_dispatch above 1 needs a training set in memory whose images "
                "are not rescaled at random (data.augment=none or pad_crop): set it to 1"
            )
        return {"image": self._examples.images, "label": self._examples.labels}

    def iterate(self, start_step: int, stop_step: int) -> Generator[Batch, None, None]:
        """Yields the batches of steps [start_step, stop_step), made ahead of time.

        Raises:
          UserError: an example cannot be decoded, or more are skipped than `MOST_SKIPPED`.
        """
        steps = range(start_step, stop_step)
        with contextlib.closing(prefetched(self._batch, steps, self._examples.workers)) as batches:
            for batch in batches:
                self._count(batch.pop(_UNREADABLE))
                yield batch

    def _count(self, unreadable: np.ndarray) -> None:
        for index in sorted({*map(int, unreadable)} - self.unreadable):
            self.unreadable.add(index)
            logging.warning(
                "training example %d cannot be decoded; the next one stands for it (%d so far)",
                index,
                len(self.unreadable),
            )
        if len(self.unreadable) > max(1, MOST_SKIPPED * self.num_examples):
            raise UserError(
                f"{len(self.unreadable)} of {self.num_examples:,} training examples cannot be "
                f"decoded, more than {MOST_SKIPPED:.0%}: repair the data, or leave them out"
            )


class EvalPipeline:
    """Every example once, in order, in batches of one size with a mask over the padding.

    Attributes:
      num_examples: N, of the source, over all processes.
      crop: which crop of an image is fed, in words, to name beside an accuracy.
    """

    def __init__(
        self,
        source: Source,
        data: Any,
        *,
        batch_size: int,
        process_index: int = 0,
        process_count: int = 1,
    ) -> None:
        """Prepares the source; arguments as `TrainPipeline`'s, `batch_size` global."""
        self.num_examples = len(source)
        resize = eval_resize(source, data)
        self.crop = f"centre crop {data.image_size} of shortest side {resize}"
        self._batch_size = batch_size
        self._local = _local_part(batch_size, process_index, process_count)
        self._examples = center_cropped(source, data)

    def __len__(self) -> int:
        """Returns the number of batches, the same on every process."""
        return -(-self.num_examples // self._batch_size)

    def batch(self, index: int) -> Batch:
        """Returns a batch as `TrainPipeline.batch`; where mask is False, image and label are 0."""
        indices = index * self._batch_size + self._local
        mask = indices < self.num_examples
        images, labels, _ = self._examples.take(indices[mask], indices[mask])
        padding = (0, len(mask) - len(labels))
        return {
            "image": np.pad(images, (padding, (0, 0), (0, 0), (0, 0))),
            "label": np.pad(labels, padding),
            "mask": mask,
        }

    def __iter__(self) -> Generator[Batch, None, None]:
        return prefetched(self.batch, range(len(self)), self._examples.workers)


def _local_part(batch_size: int, process_index: int, process_count: int) -> np.ndarray:
    """Returns which examples of the global batch are this process's: int64 (B_local,)."""
    if batch_size % process_count:
        raise UserError(
            f"a batch of {batch_size} cannot be divided among {process_count} processes: "
            f"give a multiple of {process_count}"
        )
    local_size = batch_size // process_count
    return process_index * local_size + np.arange(local_size)
