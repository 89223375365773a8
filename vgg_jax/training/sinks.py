"""Where numbers go as they are made: `metrics.jsonl` and TensorBoard's events.

Both are a `Sink`, and so are the trackers of `vgg_jax.training.trackers`.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, Protocol

from vgg_jax.runs.directory import METRICS_FILE, TENSORBOARD, storing


@contextlib.contextmanager
def _as_if_not_installed(module: str) -> Generator[None, None, None]:
    """While entered, `import module` fails, unless the module is there already."""
    hidden = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


# It would import PyTorch for the name of a type, which takes longer than all other imports.
with _as_if_not_installed("torch"):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar

Values = dict[str, float]


class Sink(Protocol):
    """Takes the numbers of a run as they are made, on the process that writes."""

    def write(self, step: int, values: Values) -> None:
        """Takes numbers by name and hands them on, so that a crash loses none of them."""

    def close(self) -> None:
        """Takes nothing more."""


class JsonLines:
    """`metrics.jsonl`: an object per line, "step" and the numbers."""

    def __init__(self, workdir: Path, kept: Iterable[dict[str, Any]]) -> None:
        """Replaces what is in the file by the lines to keep of it, and appends from then on.

        Raises:
          StorageError: the file cannot be written, now or later.
        """
        self._path = workdir / METRICS_FILE
        with storing(self._path):
            partial = self._path.with_suffix(".tmp")
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
            partial.replace(self._path)
            self._file = self._path.open("a")

    def write(self, step: int, values: Values) -> None:
        """Appends a line."""
        with storing(self._path):
            self._file.write(json.dumps({"step": step, **values}) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):  # every line was flushed, or has been reported
            self._file.close()


class Events:
    """TensorBoard's file of events, written by the thread that calls.

    The thread of tensorboardX's own `SummaryWriter` dies of a full disk, and what calls it then
    waits for ever.
    """

    def __init__(self, workdir: Path, start: int) -> None:
        """Begins a file; TensorBoard will hide what earlier ones have past step `start`.

        Raises:
          StorageError: the file cannot be written, now or later.
        """
        self._folder = workdir / TENSORBOARD
        with storing(self._folder):
            self._folder.mkdir(exist_ok=True)
            # Two starts within a second would get the same name, the second overwrite the first.
            self._writer = EventsWriter(str(self._folder / "events"), f".{os.getpid()}.{start}")
            purge = Event(step=start + 1, session_log=SessionLog(status=SessionLog.START))
            purge.wall_time = time.time()
            self._writer.write_event(purge)
            self._writer.flush()

    def write(self, step: int, values: Values) -> None:
        """Writes scalars by name and hands them to the file system."""
        with storing(self._folder):
            for name, value in values.items():
                event = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
                self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):
            self._writer.close()
