"""What the command lines share: arguments, reading a config, user errors as exit status 2."""

import argparse
import ast
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ml_collections import ConfigDict
from tqdm import tqdm

from vgg_jax.errors import UserError, unknown_name

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
LOG_SECONDS = 30  # between two lines of progress in a log


def run_command(main: Callable[[list[str]], int]) -> NoReturn:
    """Runs a command line and exits with its status; a `UserError` prints and exits with 2."""
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    sys.exit(status)


class CommandParser(argparse.ArgumentParser):
    """Parses a command line; help is the module's docstring, and options are typed in full.

    Args:
      module: what follows `python -m`.
      description: the module's docstring.
      usage: as of argparse.
    """

    def __init__(self, module: str, description: str | None, usage: str | None = None):
        super().__init__(
            prog=f"python -m {module}",
            usage=usage,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}\nType {self.prog} --help for what can be given.")


def load_config(spec: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Reads a config file and applies `--config.key=value` overrides.

    Args:
      spec: path of a Python file that defines `get_config`, optionally followed by a colon and the
        string that is handed to it, as in "configs/vgg16.py:cifar10,bn".
      overrides: arguments such as "--config.optimizer.learning_rate=0.02". A value has the type of
        the field it replaces; tuples are written as in Python, "(256,512)".

    Raises:
      UserError: for a missing file, an unknown key (the nearest one is named), a value of the
        wrong type, or an argument that is no override.
    """
    path, _, argument = spec.partition(":")
    config = _config_function(Path(path))(argument)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not name.startswith("--config."):
            raise UserError(f"unknown argument {override!r}; overrides look like --config.seed=1")
        if not equals:
            raise UserError(f"{name} needs a value: type {name}=VALUE")
        _set_field(config, name.removeprefix("--config."), text)
    config.lock()
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns {dotted key: value} for every leaf of a config."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()}
        else:
            flat[key] = value
    return flat


def parse_scales(text: str) -> tuple[int, ...]:
    """Returns the numbers of `--scales=256,384,512`.

    Raises:
      UserError: they are none.
    """
    try:
        return tuple(int(scale) for scale in text.split(","))
    except ValueError as error:
        raise UserError(f"--scales={text} wants whole numbers, such as 256,384,512") from error


def show_progress(items: range, unit: str) -> Iterator[int]:
    """Yields the items, with a progress bar on a terminal and a line now and then in a log."""
    if sys.stderr.isatty():
        yield from tqdm(items, unit=unit, dynamic_ncols=True)
        return
    started = told = time.perf_counter()
    for done, item in enumerate(items):
        now = time.perf_counter()
        if now - told > LOG_SECONDS:
            left = (now - started) / done * (len(items) - done)
            print(f"{done}/{len(items)} {unit}s, {left:.0f} s left", file=sys.stderr, flush=True)
            told = now
        yield item


def _config_function(path: Path) -> Callable[[str], ConfigDict]:
    if not path.is_file():
        known = sorted(str(p) for p in Path("configs").glob("*.py") if not p.stem.startswith("_"))
        there = f"the ones here are {', '.join(known)}" if known else "run from the project's root"
        raise UserError(f"no config file {path}; {there}")
    # Config files import their base as `configs.base`: make that work from any working folder.
    root = str(path.resolve().parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    spec = importlib.util.spec_from_file_location(f"config_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is no Python file; give a config such as configs/vgg16.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"{path} defines no get_config; give a config such as configs/vgg16.py")
    return module.get_config


def _set_field(config: ConfigDict, key: str, text: str) -> None:
    keys = flatten(config)
    if key not in keys:
        inner = [k for k in keys if k.startswith(f"{key}.")]
        if inner:
            raise UserError(f"config.{key} is a group: set one of {', '.join(inner)}")
        raise unknown_name("config key", key, keys)
    *parents, leaf = key.split(".")
    for parent in parents:
        config = config[parent]
    config[leaf] = _parse(key, text, config.get_type(leaf))


def _parse(key: str, text: str, kind: type) -> Any:
    """Returns the value that `text` stands for in a field of type `kind`."""
    if kind is str:
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        if kind is float and type(value) is int:
            value = float(value)
        if kind is tuple and isinstance(value, list):
            value = tuple(value)
    except (ValueError, SyntaxError):
        value = text
    if type(value) is not kind:
        example = {bool: "true", int: "3", float: "0.1", tuple: "(1,2)"}.get(kind, kind.__name__)
        raise UserError(
            f"config.{key} is of type {kind.__name__}, which {text!r} is not; "
            f"type for example --config.{key}={example}"
        )
    return value
