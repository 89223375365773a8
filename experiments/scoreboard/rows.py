"""A row of the score board, and how it is judged."""

import dataclasses
import math

import numpy as np

from vgg_jax.runs.tables import mean_interval

KINDS = ("published", "as commonly stated", "theory", "identity")
AGREES, DIFFERS, NOT_RUN = "agrees", "differs", "not run"


@dataclasses.dataclass(frozen=True)
class Measured:
    """A quantity of ours.

    Attributes:
      value: the mean over seeds.
      low: lower end of the 95% interval; the value itself if there is one seed.
      high: upper end.
      seeds: number of them.
      file: that it comes from, below the repository's root.
    """

    value: float
    low: float
    high: float
    seeds: int
    file: str

    @classmethod
    def single(cls, value: float, file: str) -> "Measured":
        """Returns a value that has no interval."""
        return cls(value, value, value, 1, file)

    @classmethod
    def mean(cls, values: np.ndarray, file: str) -> "Measured":
        """Returns the mean of a sample, one value per seed, with Student's interval."""
        mean, half = mean_interval(values)
        return cls(mean, mean - half, mean + half, len(values), file)


@dataclasses.dataclass(frozen=True)
class Row:
    """A quantity of a paper or of theory, beside ours.

    Attributes:
      quantity: in words.
      kind: one of `KINDS`. An identity holds whatever is measured: a count of parameters, or the
        same network up to a factor per layer.
      source: paper and place, or the function that predicts.
      theirs: the number.
      tolerance: "2%" of theirs, or "0.4" absolute.
      chosen: "before" or "after" the result was known.
      ours: None if nothing is stored.
      reason: why ours differs, if it does.
    """

    quantity: str
    kind: str
    source: str
    theirs: float
    tolerance: str
    chosen: str
    ours: Measured | None
    reason: str = ""

    @property
    def verdict(self) -> str:
        """AGREES if theirs is in our interval or ours within the tolerance; DIFFERS; NOT_RUN."""
        if self.ours is None:
            return NOT_RUN
        if not math.isfinite(self.ours.value):
            return DIFFERS
        inside = self.ours.low <= self.theirs <= self.ours.high
        return AGREES if inside or self._distance() <= self._allowed() else DIFFERS

    def _distance(self) -> float:
        assert self.ours is not None
        return abs(self.ours.value - self.theirs)

    def _allowed(self) -> float:
        if self.tolerance.endswith("%"):
            return float(self.tolerance[:-1]) / 100 * abs(self.theirs)
        return float(self.tolerance)
