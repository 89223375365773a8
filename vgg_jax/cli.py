"""What the command lines share: arguments, progress, user errors as exit status 2."""

import argparse
import atexit
import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from vgg_jax.errors import EXIT_USER_ERROR, UserError, missing_extra

EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
SCRIPT = "vgg-jax"  # the console script; its entry point is in `vgg_jax.__main__`
COMPLETING = "_ARGCOMPLETE"  # set in the environment while a shell asks for completions
LOG_SECONDS = 30  # between two lines of progress in a log


def run_command(main: Callable[[list[str]], int]) -> NoReturn:
    """Runs a command line and exits with its status; a `UserError` prints and exits with 2.

    A SIGTERM or SIGHUP that comes while the interpreter ends does not replace the status.
    """
    try:
        status = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        if (hint := missing_extra(error)) is None:
            raise
        print(f"error: {hint}", file=sys.stderr)
        status = EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # as by `| head`; what is flushed at exit goes nowhere then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    atexit.register(_ignore_signals)
    gc.freeze()  # the interpreter's last collection would search all that the process ends with
    sys.exit(status)


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def quick_imports() -> Generator[None, None, None]:
    """While entered, imports are not interrupted by garbage collections.

    Modules are half a million objects that live as long as the process: neither is one of them
    garbage while they are made, nor do later collections search them. Where JAX is there already,
    as in a program that calls `main`, this does nothing.
    """
    if "jax" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class CommandParser(argparse.ArgumentParser):
    """Parses a command line; help is the module's docstring, and options are typed in full.

    Help calls the command as the user did, `python -m vgg_jax.train` or `vgg-jax train`. A shell
    that asks for completions gets them instead, by argcomplete, and the process ends.

    Args:
      module: what follows `python -m`.
      description: the module's docstring.
      usage: as of argparse.
    """

    def __init__(self, module: str, description: str | None, usage: str | None = None):
        program = _program(module)
        super().__init__(
            prog=program,
            usage=usage,
            description=description and description.replace(f"python -m {module}", program),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses as argparse does, unless a shell asks for completions."""
        # With a namespace it is argcomplete that asks, how far it understands the line.
        if COMPLETING in os.environ and namespace is None:
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}\nRun {self.prog} --help for the options.")


def _program(module: str) -> str:
    """Returns what the user typed to start a module."""
    package, _, command = module.partition(".")
    started = Path(sys.argv[0])
    if package == "vgg_jax" and started.name == SCRIPT:
        return f"{SCRIPT} {command}".rstrip()
    if package == "vgg_jax" and started.parts[-2:] == (package, "__main__.py"):
        return f"python -m {package} {command}".rstrip()
    return f"python -m {module}"


def parse_scales(text: str) -> tuple[int, ...]:
    """Returns the numbers of `--scales=256,384,512`.

    Raises:
      UserError: they are none.
    """
    try:
        return tuple(int(scale) for scale in text.split(","))
    except ValueError as error:
        raise UserError(f"--scales={text} takes whole numbers, such as 256,384,512") from error


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
