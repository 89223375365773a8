"""Runs a command of vgg_jax, or tells its version.

    python -m vgg_jax train --config=vgg16:digits
    python -m vgg_jax configs
    python -m vgg_jax --version

Each command has --help.
"""

import argparse
import ast
import importlib
import importlib.metadata
import inspect
import os
from collections.abc import Iterator
from pathlib import Path

from vgg_jax.cli import COMPLETING, CommandParser, run_command
from vgg_jax.config import PACKAGE, SHIPPED
from vgg_jax.errors import unknown_name

CONFIGS = "configs"  # the one command that is no module
COMMANDS = (
    *("train", "predict", "evaluate", "extract", "convert", "summarize"),
    *("prepare", "linear_probe", "sweep", "report", CONFIGS),
)
_WIDTH = 30  # of the column of names


def run() -> None:
    """Runs the command line of this process: the entry point of the console script."""
    run_command(main)


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status.

    Raises:
      UserError: there is no such command, or its arguments are wrong.
    """
    typed = _command_to_complete() if COMPLETING in os.environ else next(iter(argv), "-")
    if not typed.startswith("-"):
        if typed not in COMMANDS:
            raise unknown_name("command", typed, COMMANDS)
        command = list_configs if typed == CONFIGS else importlib.import_module(_home(typed)).main
        return command(argv[1:])
    parser = CommandParser("vgg_jax", __doc__)
    parser.add_argument("--version", action="store_true", help="print the version alone")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", parser_class=argparse.ArgumentParser
    )
    for name in COMMANDS:
        commands.add_parser(name, help=_purpose(name), add_help=False)
    if parser.parse_args(argv).version:
        print(importlib.metadata.version("vgg_jax"))
    else:
        parser.print_help()
    return 0


def list_configs(argv: list[str]) -> int:
    """Lists the configs of the package, and the words that each takes after a colon.

    python -m vgg_jax.configs
    """
    description = inspect.cleandoc(list_configs.__doc__ or "")
    CommandParser("vgg_jax.configs", description).parse_args(argv)
    print("--config= takes one of these, such as vgg16:cifar10,bn; vgg16_bn is vgg16:bn\n")
    for line in _config_lines():
        print(line)
    return 0


def _config_lines() -> Iterator[str]:
    base = importlib.import_module(f"{PACKAGE}.base")
    for name in SHIPPED:
        config = importlib.import_module(f"{PACKAGE}.{name}")
        words = getattr(config, "WORDS", base.WORDS)
        yield f"{name + words:{_WIDTH}}  {_first_line(config.__doc__)}"
    for title, known in (("DATASET", base.DATASETS), ("RECIPE", base.RECIPES)):
        yield f"\n{title} is one of"
        for word, change in known.items():
            yield f"{word:{_WIDTH}}  {_first_line(change.__doc__)}"


def _home(command: str) -> str:
    """Returns the module of a command. That of `predict` only starts it (see there)."""
    return f"vgg_jax.{'features.predict_command' if command == 'predict' else command}"


def _purpose(command: str) -> str:
    """Returns the first line of a command's help, without importing it."""
    if command == CONFIGS:
        return _first_line(list_configs.__doc__)
    path = Path(__file__).parent.parent.joinpath(*_home(command).split("."))
    return _first_line(ast.get_docstring(ast.parse(path.with_suffix(".py").read_text())))


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def _command_to_complete() -> str:
    """Returns the command whose arguments a shell wants completed, or "-" for the command itself.

    That the command is done tells argcomplete by the place where the arguments start.
    """
    import argcomplete

    start = int(os.environ[COMPLETING])
    line, point = os.environ["COMP_LINE"], int(os.environ["COMP_POINT"])
    words = argcomplete.split_line(line, point)[3][start:]  # those before the cursor's
    if not words or words[0] not in COMMANDS:
        return "-"
    os.environ[COMPLETING] = str(start + 1)
    return words[0]


if __name__ == "__main__":
    run()
