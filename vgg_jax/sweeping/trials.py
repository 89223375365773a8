"""What a sweep consists of: named runs, read from a Python file, and their progress."""

import dataclasses
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vgg_jax.config import load_config, override_arguments
from vgg_jax.errors import UserError
from vgg_jax.json_files import read_object
from vgg_jax.runs.directory import CONFIG_FILE, SUMMARY_FILE, check_same_config

_NAME = re.compile(r"[\w.+,=-]+")


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
      name: unique in the sweep; its folder is called so.
      config: as after `--config=` of `vgg_jax.train`.
      overrides: {dotted config key: value}.
      workdir: its run directory.
    """

    name: str
    config: str
    overrides: Mapping[str, Any]
    workdir: Path

    def arguments(self) -> list[str]:
        """Returns what follows `python` in the command that makes the run."""
        return [
            "-m",
            "vgg_jax.train",
            f"--config={self.config}",
            *override_arguments(self.overrides),
            f"--workdir={self.workdir}",
        ]

    def command(self) -> str:
        """Returns the command as one line for a shell."""
        return shlex.join(["python", *self.arguments()])

    def finished(self) -> bool:
        """Returns whether the run is complete."""
        path = self.workdir / SUMMARY_FILE
        return path.is_file() and read_object(path).get("exit_reason") == "finished"


def load_trials(
    path: Path, folder: Path, check: Callable[[ConfigDict], None] | None = None
) -> list[Trial]:
    """Reads a sweep file.

    The file defines `get_runs()`, which yields (name, config, overrides):

        def get_runs():
            for norm, seed in itertools.product(("none", "batch"), range(3)):
                overrides = {"model.norm": norm, "seed": seed}
                yield f"{norm}-seed{seed}", "configs/vgg16.py:digits", overrides

    Every config is read, so that a mistake in the last run shows before the first one starts.

    Args:
      path: of the sweep file.
      folder: of the sweep; the runs' directories are in it.
      check: raises UserError at a config that a run would refuse.

    Raises:
      UserError: no such file or function; a name that is no folder's or comes twice; overrides
        that the config refuses; a run directory that holds another config.
    """
    trials: list[Trial] = []
    names: set[str] = set()
    for item in _runs(path):
        try:
            name, config, overrides = item
        except (TypeError, ValueError):
            raise UserError(
                f"{path} yields {item!r}; it must yield (name, config, overrides), as in\n"
                "('bn-seed1', 'configs/vgg16.py:digits', {'model.norm': 'batch', 'seed': 1})"
            ) from None
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{path}: a run is called {name!r}; use letters, digits and any of . _ + , = -"
            )
        if name in names:
            raise UserError(f"{path} yields two runs called {name!r}: give each its own name")
        names.add(name)
        trial = Trial(name, config, overrides, folder / name)
        try:
            loaded = load_config(config, override_arguments(trial.overrides))
            if check is not None:
                check(loaded)
            _check_stored(trial, loaded)
        except UserError as error:
            raise UserError(f"run {name!r} of {path}: {error}") from error
        trials.append(trial)
    if not trials:
        raise UserError(f"{path} yields no run")
    return trials


def _runs(path: Path) -> Iterator[Any]:
    if not path.is_file():
        known = sorted(str(p) for p in Path("experiments").glob("*/sweep*.py"))
        there = f"; the ones here are {', '.join(known)}" if known else ""
        raise UserError(f"no sweep file {path}{there}")
    spec = importlib.util.spec_from_file_location(f"sweep_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(
            f"{path} is not a Python file; give a sweep such as experiments/NAME/sweep.py"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_runs"):
        raise UserError(f"{path} defines no get_runs(), which yields (name, config, overrides)")
    return module.get_runs()


def _check_stored(trial: Trial, config: ConfigDict) -> None:
    path = trial.workdir / CONFIG_FILE
    if path.exists():
        check_same_config(trial.workdir, config)
