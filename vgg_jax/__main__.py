"""Lists the commands of vgg_jax, or tells its version.

    python -m vgg_jax
    python -m vgg_jax --version

Each command has a help of its own.
"""

import ast
import importlib.metadata
from pathlib import Path

from vgg_jax.cli import CommandParser, run_command

COMMANDS = (
    *("train", "predict", "evaluate", "extract", "convert", "summarize"),
    *("prepare", "linear_probe", "sweep", "report"),
)


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax", __doc__)
    parser.add_argument("--version", action="store_true", help="print the version alone")
    if parser.parse_args(argv).version:
        print(importlib.metadata.version("vgg_jax"))
        return 0
    for name in COMMANDS:
        print(f"python -m vgg_jax.{name:14s}{_purpose(name)}")
    print("Each has --help.")
    return 0


def _purpose(name: str) -> str:
    """Returns the first line of a command's help, without importing it."""
    path = "features/predict_command" if name == "predict" else name
    module = ast.parse((Path(__file__).parent / f"{path}.py").read_text())
    return (ast.get_docstring(module) or "").partition("\n")[0]


if __name__ == "__main__":
    run_command(main)
