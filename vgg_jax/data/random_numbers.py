"""Random numbers of the host as pure functions of (stream, seed, counter): none is ever stored."""

import numpy as np

PERMUTATION, CROP = 0, 1  # the streams


def generator(stream: int, seed: int, counter: int) -> np.random.Generator:
    """Returns the generator of one use of a stream, such as an epoch or a position."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((stream, seed, counter))))
