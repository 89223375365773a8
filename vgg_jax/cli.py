"""What the command lines share: arguments, progress, user errors as exit status 2."""

import argparse
import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from tqdm import tqdm

from vgg_jax.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, the shell's convention
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
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
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # as by `| head`; what is flushed at exit goes nowhere then
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = EXIT_BROKEN_PIPE
    atexit.register(_ignore_signals)
    sys.exit(status)


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


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
        raise UserError(f"{message}\nRun {self.prog} --help for the options.")


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
