"""Several steps in one dispatch: the training set lives on the devices, and the step is scanned.

A small net on small images ends its step sooner than the host can start the next one. Here the host
only says which examples come next, a few bytes each, and the images never leave the devices. A step
sees the same state, examples and keys as when it is dispatched alone.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax import lax

from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import Batch, Metrics, TrainStep

# (state, the whole training set, indices (k, B)) -> (state, metrics (k,))
ResidentSteps = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]
# (state, this process's indices (k, B_local)) -> (state, metrics (k,))
Dispatch = Callable[[TrainState, np.ndarray], tuple[TrainState, Metrics]]


def scan_steps(train_step: TrainStep) -> ResidentSteps:
    """Returns the function that makes k steps of `train_step`; pure.

    Its arguments are the state, the training set {"image": uint8 (N, h, w, 3), "label": int32
    (N,)} and the examples of each step, int32 (k, B). A metric has one value a step, (k,).
    """

    def steps(state: TrainState, data: Batch, indices: jax.Array) -> tuple[TrainState, Metrics]:
        def step(state: TrainState, chosen: jax.Array) -> tuple[TrainState, Metrics]:
            return train_step(state, {name: values[chosen] for name, values in data.items()})

        return lax.scan(step, state, indices)

    return steps


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
