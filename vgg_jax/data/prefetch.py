"""Runs a function of the step ahead of its consumer, on a thread or in worker processes."""

import collections
import contextlib
import functools
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import flags

from vgg_jax.errors import UserError

Batch = dict[str, np.ndarray]

_DEPTH = 2  # batches ready or in the making beyond those in the workers' own buffers


def prefetched(
    make_batch: Callable[[int], Batch], steps: range, workers: int
) -> Generator[Batch, None, None]:
    """Yields make_batch(step) for each step, in order, made ahead of time.

    Closing the generator, or dropping it, ends the thread and the workers. An error of `make_batch`
    is raised here, wherever it happened.

    Args:
      make_batch: a pure function; for workers, one that can be pickled.
      steps: consecutive steps.
      workers: number of Grain worker processes; 0 for a thread of this process.
    """
    batches = _in_workers(make_batch, steps, workers) if workers else _inline(make_batch, steps)
    thread = ThreadPoolExecutor(1, "prefetch")
    with contextlib.closing(batches):
        try:
            ahead = collections.deque(thread.submit(next, batches, None) for _ in range(_DEPTH))
            while (batch := ahead.popleft().result()) is not None:
                ahead.append(thread.submit(next, batches, None))
                yield batch
        finally:
            thread.shutdown(cancel_futures=True)


def _inline(make_batch: Callable[[int], Batch], steps: range) -> Generator[Batch, None, None]:
    for step in steps:
        yield make_batch(step)


def _in_workers(
    make_batch: Callable[[int], Batch], steps: range, workers: int
) -> Generator[Batch, None, None]:
    import grain  # late: a thread needs none of it

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads flags of its own to start a worker
    batches = iter(
        # The steps themselves are the data set: where to resume is a slice of it, never a saved
        # iterator, whose meaning in Grain depends on the number of workers.
        grain.MapDataset.range(steps.start, steps.stop)
        .map(functools.partial(_batch_or_error, make_batch))
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        .mp_prefetch(
            grain.MultiprocessingOptions(min(workers, len(steps))), worker_init_fn=_start_worker
        )
    )
    try:
        for batch in batches:
            if isinstance(batch, UserError):
                raise batch
            # Copied out of Grain's shared memory, which complains when it is freed at exit.
            yield {name: np.array(values) for name, values in batch.items()}
    finally:
        batches.close()
        batch = batches = None
        gc.collect()  # the closed iterator is a reference cycle that holds its last batches


def _batch_or_error(make_batch: Callable[[int], Batch], step: int) -> Batch | UserError:
    try:
        return make_batch(step)
    except UserError as error:  # raised by the parent, without Grain's frames and notes
        return error


def _start_worker(index: int, count: int) -> None:
    """Leaves Ctrl-C to the parent, and ends with it, even if it was killed."""
    del index, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
