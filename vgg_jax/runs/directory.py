"""The run directory: its config, who may write in it, and the summary at the end."""

import contextlib
import fcntl
import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vgg_jax.config import as_json, flatten, stored_config, with_classes
from vgg_jax.errors import UserError, quoted
from vgg_jax.json_files import parse_json, read_object, write_json

CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"
METRICS_FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
LOCK_FILE = ".lock"
LAYERS_FILE = Path("probes") / "layers.csv"  # of the probes along a run

# Keys that do not change what is computed: a run may resume with other values.
_FREE_PREFIXES = (
    "check_memory",
    "log.",
    "probe.",
    "checkpoint.",
    "eval.batch_size",
    "data.dir",
    "data.workers",
    "data.on_error",
    "parallel.",
)
# With these schedules what is past does not depend on where the end is.
_OPEN_ENDED_SCHEDULES = ("constant", "step", "plateau")
_LISTED = 5  # differences of two configs
# What a summary may have.
_SUMMARY: dict[str, Any] = {
    **dict.fromkeys(("metrics", "protocol", "versions", "devices"), dict),
    **dict.fromkeys(("exit_reason", "command"), str),
    **dict.fromkeys(("steps", "parameters", "wall_seconds"), int | float),
    **dict.fromkeys(("seconds_to_first_step", "images_per_second"), int | float),
}


class StorageError(Exception):
    """The run directory can no longer be written: its disk is full, or the folder is gone."""


class Workdir:
    """A run directory, held by this process alone while it trains.

    The kernel releases the hold when the process dies, whatever it dies of.

    Attributes:
      path: the folder.
      note: what the user should know about the hold, or None.
    """

    def __init__(self, path: Path) -> None:
        """Makes the folder and holds it.

        Raises:
          UserError: another process holds it, or it cannot be written.
        """
        self.path = path
        self.note: str | None = None
        with _writable(path):
            path.mkdir(parents=True, exist_ok=True)
            self._lock = (path / LOCK_FILE).open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.seek(0)
            owner = self._lock.read(200).strip() or "another process"
            self._lock.close()
            raise UserError(
                f"{path} is in use by {owner}: wait until it ends, stop it, or give another "
                "--workdir"
            ) from error
        except OSError:
            self.note = f"{path} is on storage without locks: run one process there at a time"
        with _writable(path):
            self._lock.truncate(0)
            self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            self._lock.flush()

    def check(self) -> None:
        """Checks that the folder is still the one that this process holds.

        Raises:
          StorageError: it was removed or replaced.
        """
        held = os.fstat(self._lock.fileno())
        try:
            now = (self.path / LOCK_FILE).stat()
        except OSError as error:
            raise StorageError(f"run directory {self.path} is gone: {error.strerror}") from error
        if (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino):
            raise StorageError(f"run directory {self.path} was replaced by another one")

    def close(self) -> None:
        """Lets go of the folder."""
        with contextlib.suppress(OSError):  # what was buffered when the disk was full
            self._lock.close()


@contextlib.contextmanager
def _writable(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to workdir {workdir}: {error.strerror}; give another one by --workdir"
        ) from error


@contextlib.contextmanager
def storing(what: Path) -> Iterator[None]:
    """While entered, an operating system's error is one of writing `what`.

    Raises:
      StorageError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write {what}: {error.strerror or error}") from error


def resumed_config(workdir: Path, config: ConfigDict) -> ConfigDict:
    """Returns a config with the stored run's number of classes, if it leaves it to the data.

    Raises:
      UserError: the stored config is damaged.
    """
    key = "model.num_classes"
    left_open = flatten(config).get(key, 0) is None
    if not left_open or not (workdir / CONFIG_FILE).exists():
        return config
    stored = flatten(read_config(workdir)).get(key)
    return with_classes(config, stored) if type(stored) is int else config


def open_workdir(path: Path, config: ConfigDict) -> Workdir:
    """Holds a run directory for a run; stores the config, or checks the one stored there.

    Raises:
      UserError: the folder is in use or cannot be written, or the stored config differs in what
        matters.
    """
    workdir = Workdir(path)
    try:
        if (path / CONFIG_FILE).exists():
            check_same_config(path, config)
        else:
            with _writable(path):
                write_json(path / CONFIG_FILE, as_json(config))
    except UserError:
        workdir.close()
        raise
    return workdir


def finished_summary(workdir: Path, config: ConfigDict, steps: int) -> dict[str, Any] | None:
    """Returns the summary of a run that has made all its steps, or None.

    Raises:
      UserError: the summary cannot be read, or the folder holds a run with another config.
    """
    if not (workdir / SUMMARY_FILE).exists() or not (workdir / CONFIG_FILE).exists():
        return None
    summary = read_summary(workdir)
    if (summary.get("exit_reason"), summary.get("steps")) != ("finished", steps):
        return None
    check_same_config(workdir, config)
    return summary


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config stored in a run directory.

    Raises:
      UserError: there is none, or its file is damaged.
    """
    return stored_config(workdir / CONFIG_FILE)


def read_summary(workdir: Path) -> dict[str, Any]:
    """Returns the content of `summary.json`; empty while the run has not ended.

    Raises:
      UserError: the file is damaged.
    """
    path = workdir / SUMMARY_FILE
    summary = read_object(path) if path.is_file() else {}
    for key, kind in _SUMMARY.items():
        if not isinstance(summary.get(key), kind | None):
            raise UserError(f"{path} is damaged: {key} is {quoted(summary[key])}")
    for name, value in (summary.get("metrics") or {}).items():
        if not _is_number(value):
            raise UserError(f"{path} is damaged: metrics has {name}={quoted(value)}")
    return summary


def read_metrics(workdir: Path) -> list[dict[str, float]]:
    """Returns the lines of `metrics.jsonl`; not one that is being written, or was cut off.

    Raises:
      UserError: the file is damaged.
    """
    lines, damaged = readable_metrics(workdir)
    if damaged:
        raise UserError(damaged[0])
    return lines


def readable_metrics(workdir: Path) -> tuple[list[dict[str, float]], list[str]]:
    """Returns the complete lines of `metrics.jsonl` that can be read, and what ails the others."""
    path = workdir / METRICS_FILE
    if not path.is_file():
        return [], []
    *complete, _ = path.read_bytes().split(b"\n")
    lines: list[dict[str, float]] = []
    damaged: list[str] = []
    for number, text in enumerate(complete, 1):
        name = f"line {number} of {path}"
        try:
            line = parse_json(text, name)
        except UserError as error:
            damaged.append(str(error))
            continue
        numbers = isinstance(line, dict) and all(map(_is_number, line.values()))
        if numbers and math.isfinite(line.get("step", math.nan)):
            lines.append(line)
        else:
            damaged.append(f"{name} is damaged: it has no step with its numbers")
    return lines, damaged


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_same_config(workdir: Path, config: ConfigDict) -> None:
    """Raises UserError if the config stored in `workdir` differs in what is computed.

    A number of classes that is left to the data is the stored one.
    """
    before = flatten(read_config(workdir))
    now = flatten(resumed_config(workdir, config))
    free: tuple[str, ...] = _FREE_PREFIXES
    if now["optimizer.schedule"] in _OPEN_ENDED_SCHEDULES:
        free += ("epochs", "steps")
    changed = [
        f"{key}: {quoted(before.get(key))} there, {quoted(now.get(key))} now"
        for key in sorted(before | now)
        if before.get(key) != now.get(key) and not key.startswith(free)
    ]
    if changed:
        if len(changed) > _LISTED:
            changed[_LISTED:] = [f"and {len(changed) - _LISTED} more"]
        raise UserError(
            f"{workdir} holds a run with another config ({'; '.join(changed)}).\n"
            "Give the same config to resume it, or another --workdir to start a new run"
        )


def write_report(path: Path, content: Any) -> None:
    """Writes JSON to a file that the user named, in a folder that is made if absent.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
