"""A sweep that has to end in time: starts what fits, and stops what does not."""

import re
import statistics
import time
from collections.abc import Callable, Sequence

from vgg_jax.errors import UserError
from vgg_jax.runs.directory import read_summary
from vgg_jax.sweeping.trials import Trial

SAVING_SECONDS = 20.0  # before the limit: for runs under way to save and for the table
_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_seconds(text: str) -> float:
    """Returns the seconds of "90s", "8m", "1.5h" or a number of seconds.

    Raises:
      UserError: it is none of these, or leaves no time besides that for saving.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    seconds = float(match[1]) * _UNITS[match[2] or "s"] if match else 0.0
    if seconds <= SAVING_SECONDS:
        raise UserError(
            f"--time_limit={text} must be more than {SAVING_SECONDS:.0f} seconds, such as 90s, 8m "
            "or 1.5h"
        )
    return seconds


class TimeLimit:
    """Says which runs may still start, by what the finished ones of the sweep took."""

    def __init__(
        self,
        seconds: float,
        trials: Sequence[Trial],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts the clock.

        Args:
          seconds: until everything has ended.
          trials: all of the sweep.
          clock: in seconds.
        """
        self._trials = trials
        self._clock = clock
        self._whole = seconds - SAVING_SECONDS
        self._end = clock() + self._whole

    def is_over(self) -> bool:
        """Says whether runs under way have to stop now."""
        return self._clock() >= self._end

    def admits(self, trial: Trial) -> bool:
        """Says whether a run may start: it is expected to end in time.

        So may the first one, of which nothing is known, and one that would not fit into the whole
        time either: it is stopped, and resumes the next time.
        """
        left = self._end - self._clock()
        needed = self._expected(trial)
        return left > 0 and (needed is None or needed <= left or needed > self._whole)

    def _expected(self, trial: Trial) -> float | None:
        """Returns the seconds that a run still needs; None if none of the sweep has finished.

        As the finished ones that differ in nothing but the seed, or else as the longest of all.
        """
        finished = [other for other in self._trials if other.finished()]
        if not finished:
            return None
        alike = [_seconds(other) for other in finished if _but_seed(other) == _but_seed(trial)]
        whole = statistics.median(alike) if alike else max(map(_seconds, finished))
        return max(0.0, whole - _seconds(trial))


def _but_seed(trial: Trial) -> tuple[str, dict[str, object]]:
    return trial.config, {key: value for key, value in trial.overrides.items() if key != "seed"}


def _seconds(trial: Trial) -> float:
    """Returns the seconds of the newest start of a run; 0 if it has not begun."""
    return float(read_summary(trial.workdir).get("wall_seconds", 0.0))
