"""Reads back what runs stored: the files of a run directory as one object."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

from vgg_jax.config import flatten
from vgg_jax.runs.directory import (
    CONFIG_FILE,
    METRICS_FILE,
    read_config,
    read_metrics,
    read_summary,
)


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run directory, or what was kept of one; its files are read when they are asked for.

    All raise `UserError` for a file that is damaged.

    Attributes:
      path: the folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Content of `summary.json`; empty while the run has not ended."""
        return read_summary(self.path)

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Flat content of `config.json`, {dotted key: value}; empty if it was not kept."""
        if not (self.path / CONFIG_FILE).is_file():
            return {}
        return flatten(read_config(self.path))

    @functools.cached_property
    def lines(self) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`, without one that is being written."""
        return read_metrics(self.path)

    def loaded(self) -> "StoredRun":
        """Returns this run with every file read, so that the folder may be removed."""
        _ = self.summary, self.config, self.lines
        return self

    @property
    def command(self) -> str | None:
        """The command line that made the run, if it has ended."""
        return self.summary.get("command")

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Returns (step, value) of every line that has the metric."""
        return [(int(line["step"]), line[metric]) for line in self.lines if metric in line]

    def last(self, metric: str) -> float | None:
        """Returns the metric's last value, or None."""
        return self.curve(metric)[-1][1] if self.curve(metric) else None

    def best(self, metric: str) -> float | None:
        """Returns the metric's highest value, or None."""
        return max((value for _, value in self.curve(metric)), default=None)


def find_runs(folder: Path) -> list[StoredRun]:
    """Returns every run in a folder and below, itself included, by name."""
    return [StoredRun(path.parent) for path in sorted(folder.rglob(METRICS_FILE))]
