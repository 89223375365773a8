"""Keeps off the terminal what libraries print of errors that they raise as well.

Where a read or a write of a checkpoint fails, Orbax logs pages of tracebacks, and TensorStore's
threads report to an event loop that is closed by then. The error itself reaches the caller, who
says in one line what it means.
"""

import functools
import logging
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

_CLOSED = "Event loop is closed"


@functools.cache
def hush_orbax() -> None:
    """Drops the log records and tracebacks of Orbax's errors, in this process from now on."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_is_wanted)
    sys.excepthook = _without(sys.excepthook, lambda kind, error, traceback: _of_closed(error))
    sys.unraisablehook = _without(sys.unraisablehook, _abandoned)


def _is_wanted(record: logging.LogRecord) -> bool:
    # asyncio names the coroutine, and so its file, of a task whose error nobody asked for.
    return "/orbax/" not in record.pathname and "/orbax/" not in record.getMessage()


def _of_closed(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error) == _CLOSED


def _abandoned(raised: Any) -> bool:
    code: CodeType | None = getattr(raised.object, "cr_code", None)  # of a coroutine
    return _of_closed(raised.exc_value) or (code is not None and "/orbax/" in code.co_filename)


def _without(hook: Callable[..., Any], unwanted: Callable[..., bool]) -> Callable[..., Any]:
    def hushed(*arguments: Any) -> None:
        if not unwanted(*arguments):
            hook(*arguments)

    return hushed
