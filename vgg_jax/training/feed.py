"""What a training program is fed, dispatch by dispatch: a batch, or the indices of several steps.

A small net on small images ends its step sooner than the host can start the next one. Then the
training set lives on the devices, the host only says which examples come next, a few bytes each,
and several steps make one dispatch. A step sees the same state, examples and keys in both.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from vgg_jax.data.pipeline import TrainPipeline
from vgg_jax.training.parallel import Parallel

# (start, stop) -> (number of steps made after it, what to feed) for each dispatch
Feed = Callable[[int, int], Generator[tuple[int, Any], None, None]]


def batch_feed(data: TrainPipeline, parallel: Parallel) -> Feed:
    """Returns the feed of one step per dispatch: its global batch."""

    def feed(start: int, stop: int) -> Generator[tuple[int, Any], None, None]:
        batches = data.iterate(start, stop)
        try:
            for step, batch in enumerate(batches, start + 1):
                yield step, parallel.put(batch)
        finally:
            batches.close()

    return feed


def index_feed(
    data: TrainPipeline, parallel: Parallel, *, size: int, pauses: Sequence[int]
) -> Feed:
    """Returns the feed of several steps per dispatch (`steps.scan_steps`): (data, indices (k, B)).

    Args:
      data: a training set in memory, copied to every device now.
      parallel: the devices.
      size: steps per dispatch, at most.
      pauses: see `dispatch_ranges`.

    Raises:
      UserError: the training set is not in memory.
    """
    resident = parallel.replicate(data.in_memory())

    def feed(start: int, stop: int) -> Generator[tuple[int, Any], None, None]:
        for steps in dispatch_ranges(start, stop, size, pauses):
            indices = np.stack([data.indices(step) for step in steps]).astype(np.int32)
            yield steps.stop, (resident, parallel.put_indices(indices))

    return feed


def dispatch_ranges(start: int, stop: int, size: int, pauses: Sequence[int]) -> Iterator[range]:
    """Yields the steps [start, stop) in ranges of at most `size`.

    No range goes past a multiple of one of `pauses`, the intervals at which the host has something
    to do; an interval of 0 is none.
    """
    while start < stop:
        ends = [start - start % every + every for every in pauses if every > 0]
        end = min(start + size, stop, *ends)
        yield range(start, end)
        start = end
