"""The record beside an experiment's results: command, machine, versions, time."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from vgg_jax.cli import SCRIPT
from vgg_jax.json_files import read_object, write_json

RECORD_FILE = "record.json"


def record(module: str, argv: Sequence[str], packages: Sequence[str] = ()) -> dict[str, Any]:
    """Returns command, date, machine, versions, devices and git revision.

    Args:
      module: what was run, as in `python -m MODULE`.
      argv: its arguments; of paths outside the working folder, only the option's name is kept.
      packages: names of further packages whose versions matter; None is stored if absent.
    """
    arguments = [
        f"{name}={name.removeprefix('--').upper()}" if value.startswith("/") else argument
        for argument in argv
        for name, _, value in [argument.partition("=")]
    ]
    described = environment()
    described["versions"] |= {name: _version(name) for name in packages}
    return described | {
        "command": shlex.join(["python", "-m", module, *arguments]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **machine(),
    }


class Record:
    """The record of a run, and how long it took; a resumed run keeps the records before it.

    Create it when the run starts, so that it names the commit of the code that runs.
    """

    def __init__(
        self, out: Path, module: str, argv: Sequence[str], packages: Sequence[str] = ()
    ) -> None:
        """Starts the clocks and reads the record that an earlier run left.

        Args:
          out: folder of the results, and of `record.json`.
          module: see `record`.
          argv: see `record`.
          packages: see `record`.
        """
        self._path = out / RECORD_FILE
        self._content = record(module, argv, packages)
        self._earlier: dict[str, Any] = {}
        if self._path.exists():
            before = read_object(self._path)
            self._earlier = {"earlier": [*before.pop("earlier", []), before]}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def write(self, **extra: Any) -> None:
        """Writes the record; "cpu_seconds" is the sum over all cores.

        Args:
          **extra: further entries.
        """
        spent = {
            "wall_seconds": round(time.perf_counter() - self._wall),
            "cpu_seconds": round(time.process_time() - self._cpu),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._path, self._content | spent | extra | self._earlier)


def machine() -> dict[str, Any]:
    """Returns the processor, the number of its cores and the operating system."""
    return {"cpu": processor(), "cores": os.cpu_count(), "system": platform.system()}


def processor() -> str:
    """Returns the processor's name, or "" if the system does not tell it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def environment() -> dict[str, Any]:
    """Returns versions, devices, git revision and changes, and command line, for a summary."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "versions": {"python": platform.python_version(), "vgg_jax": _version("vgg_jax")}
        | {name: _version(name) for name in packages},
        "devices": {
            "platform": jax.default_backend(),
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "processes": jax.process_count(),
        },
        "git_revision": _git_revision(),
        "git_diff_sha256": _git_diff(),
        "command": _command(sys.orig_argv[1:]),
    }


def _command(arguments: Sequence[str]) -> str:
    """Returns the command line of what the interpreter was given, without folders of programs."""
    if arguments and Path(arguments[0]).name == SCRIPT:
        return shlex.join([SCRIPT, *arguments[1:]])
    return shlex.join(["python", *arguments])


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # run from a checkout that was not installed


def _git_revision() -> str | None:
    """Returns the commit of the code that runs, "-dirty" with uncommitted changes."""
    revision = _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    return revision.decode().strip() or None


def _git_diff() -> str | None:
    """Returns the SHA-256 of the uncommitted changes to files under version control, or None."""
    diff = _git("diff", "HEAD", "--binary")
    return hashlib.sha256(diff).hexdigest() if diff else None


def _git(*arguments: str) -> bytes:
    """Returns what git prints about the code that runs: nothing if there is no git."""
    try:
        root = Path(__file__).parent.parent
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, check=False
        ).stdout
    except FileNotFoundError:
        return b""
