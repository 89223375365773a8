"""The record beside an experiment's results: command, machine, versions, time."""

import datetime
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgg_jax.training.workdir import environment, write_json

RECORD_FILE = "record.json"


def write_record(out: Path, module: str, argv: Sequence[str], **extra: Any) -> None:
    """Writes `out`/record.json: `record` and further entries, such as the wall time in seconds."""
    write_json(out / RECORD_FILE, record(module, argv) | extra)


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


def processor() -> str:
    """Returns the processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
