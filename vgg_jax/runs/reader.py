"""Reads back what runs stored: the files of a run directory as one object."""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

from vgg_jax.config import flatten
from vgg_jax.errors import UserError
from vgg_jax.runs.directory import (
    CONFIG_FILE,
    LOCK_FILE,
    METRICS_FILE,
    read_config,
    read_metrics,
    read_summary,
    readable_metrics,
)

_MARKS = (METRICS_FILE, LOCK_FILE)  # a folder with one of them is a run's


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run directory, or what was kept of one; its files are read when they are asked for.

    All raise `UserError` for a file that is damaged.

    Attributes:
      path: the folder.
      label: what to call the run; by default as the folder.
    """

    path: Path
    label: str = ""

    @property
    def name(self) -> str:
        """The label, or the folder's name."""
        return self.label or self.path.resolve().name

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


class SalvagedRun(StoredRun):
    """A run whose damaged files count as absent, and whose damaged lines as never written."""

    @functools.cached_property
    def damage(self) -> list[str]:
        """What ails each file that is damaged, in a line."""
        found = readable_metrics(self.path)[1]
        more = f" (lines damaged: {len(found)})" if len(found) > 1 else ""
        damage = [found[0] + more] if found else []
        for read in (lambda: StoredRun(self.path).summary, lambda: StoredRun(self.path).config):
            try:
                read()
            except UserError as error:
                damage.append(str(error))
        return damage

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """Content of `summary.json`; empty if it is absent or damaged."""
        with contextlib.suppress(UserError):
            return super().summary
        return {}

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """Flat content of `config.json`; empty if it is absent or damaged."""
        with contextlib.suppress(UserError):
            return super().config
        return {}

    @functools.cached_property
    def lines(self) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl` that can be read."""
        return readable_metrics(self.path)[0]


def is_run(folder: Path) -> bool:
    """Returns whether a folder is a run's, or what was kept of one."""
    return any((folder / mark).is_file() for mark in _MARKS)


def find_runs(folder: Path) -> list[StoredRun]:
    """Returns every run in a folder and below, itself included, by name."""
    found = {path.parent for mark in _MARKS for path in folder.rglob(mark)}
    return [StoredRun(path) for path in sorted(found)]
