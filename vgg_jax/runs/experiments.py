"""What experiments share: their command line, and whether to measure or to redraw."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vgg_jax.cli import CommandParser
from vgg_jax.errors import UserError
from vgg_jax.json_files import read_json, write_json


class ExperimentParser(CommandParser):
    """Parses the command line of an experiment: `--out`, and if wanted `--preset` and `--redraw`.

    Attributes:
      module: the experiment's module, as in `python -m MODULE`.
      results: the folder `results` beside it.
    """

    def __init__(
        self,
        file: str,
        description: str | None,
        *,
        presets: Sequence[str] = (),
        default_preset: str = "quick",
        folder_per_preset: bool = False,
        redraw: bool = True,
        redraw_options: Sequence[str] = (),
        redraw_word: tuple[str, str] | None = None,
    ) -> None:
        """Adds the shared options.

        Args:
          file: `__file__` of the experiment's module, `experiments/NAME/run.py`.
          description: its docstring, which `--help` prints.
          presets: names of the presets; empty if there are none.
          default_preset: the one that runs if none is given.
          folder_per_preset: results go to `results/PRESET` by default, not to `results`.
          redraw: whether tables and figures can be made from stored results alone.
          redraw_options: other names of the option `--redraw`.
          redraw_word: (argument, word) that means `--redraw` too, such as ("what", "figures").
        """
        path = Path(file)
        self.module = f"experiments.{path.parent.name}.{path.stem}"
        self.results = path.parent / "results"
        self._folder_per_preset = folder_per_preset
        self._redraw_word = redraw_word
        super().__init__(self.module, description)
        if presets:
            self.add_argument(
                "--preset",
                choices=presets,
                default=default_preset,
                help=f"default: {default_preset}",
            )
        default = "results/PRESET" if folder_per_preset else "results"
        self.add_argument("--out", type=Path, help=f"default: {default} beside the experiment")
        if redraw:
            self.add_argument(
                "--redraw",
                *redraw_options,
                action="store_true",
                help="only write tables and figures again, from the stored results",
            )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, then fills in the default folder and what means `--redraw`."""
        parsed: argparse.Namespace
        parsed, others = super().parse_known_args(args, namespace)
        if parsed.out is None:
            parsed.out = self.results / parsed.preset if self._folder_per_preset else self.results
        if self._redraw_word:
            name, word = self._redraw_word
            parsed.redraw |= getattr(parsed, name) == word
        return parsed, others


def stored(path: Path) -> Path:
    """Returns the path of stored results.

    Raises:
      UserError: there are none.
    """
    if not path.exists():
        raise UserError(f"no stored results: {path} does not exist; run without --redraw first")
    return path


def measured_once(path: Path, measure: Callable[[], Any]) -> Any:
    """Returns the content of a JSON file; measures and writes it first if it does not exist."""
    if not path.exists():
        content = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    return read_json(path)
