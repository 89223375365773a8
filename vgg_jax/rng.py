"""Random numbers as pure functions of a seed and a counter: no generator is ever stored.

Keys for the device, NumPy generators for the host.
"""

import zlib

import jax
import numpy as np
from jax.typing import ArrayLike


def stream_key(seed: int, stream: str, step: ArrayLike = 0) -> jax.Array:
    """Returns the typed key of a named stream at a step.

    Args:
      seed: the run's seed.
      stream: name of the use, e.g. "dropout"; streams of different names are independent.
      step: int scalar, may be traced.
    """
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(stream.encode()))
    return jax.random.fold_in(key, step)


PERMUTATION, CROP = 0, 1  # the streams


def generator(stream: int, seed: int, counter: int) -> np.random.Generator:
    """Returns the generator of one use of a stream, such as an epoch or a position."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((stream, seed, counter))))
