"""The record beside an experiment's results: command, machine, versions, time."""

import datetime
import json
import os
import platform
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgg_jax.training.workdir import environment, write_json

RECORD_FILE = "record.json"


def record(module: str, argv: Sequence[str]) -> dict[str, Any]:
    """Returns command, date, processor, versions, devices and git revision.

    Args:
      module: what was run, as in `python -m MODULE`.
      argv: its arguments; of paths outside the working folder, only the option's name is kept.
    """
    arguments = [
        f"{name}={name.removeprefix('--').upper()}" if value.startswith("/") else argument
        for argument in argv
        for name, _, value in [argument.partition("=")]
    ]
    return environment() | {
        "command": shlex.join(["python", "-m", module, *arguments]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
    }


class Record:
    """The record of a run, and how long it took; a run that goes on keeps what came before.

    Made when the run starts, so that the commit is that of the code which runs.
    """

    def __init__(self, out: Path, module: str, argv: Sequence[str]) -> None:
        """Starts the clocks and reads what an earlier call left.

        Args:
          out: folder of the results, and of `record.json`.
          module: see `record`.
          argv: see `record`.
        """
        self._path = out / RECORD_FILE
        self._content = record(module, argv)
        self._earlier: dict[str, Any] = {}
        if self._path.exists():
            before = json.loads(self._path.read_text())
            self._earlier = {"earlier": [*before.pop("earlier", []), before]}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def write(self, **extra: Any) -> None:
        """Writes the record; "cpu_seconds" are those of all cores together.

        Args:
          **extra: further entries.
        """
        spent = {
            "wall_seconds": round(time.perf_counter() - self._wall),
            "cpu_seconds": round(time.process_time() - self._cpu),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, self._content | spent | extra | self._earlier)


def processor() -> str:
    """Returns the processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
