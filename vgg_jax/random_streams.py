"""Random keys as pure functions of (seed, stream name, step): none is ever stored."""

import zlib

import jax
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
