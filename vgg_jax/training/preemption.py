"""Preemption: SIGTERM, SIGHUP and Ctrl-C ask the loop to save and stop; Ctrl-C twice ends it."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from vgg_jax.cli import EXIT_INTERRUPTED


class StopRequest:
    """While entered, notes a SIGTERM, SIGHUP or SIGINT instead of dying of it.

    More of them change nothing, then and until the process ends; but a second SIGINT (Ctrl-C)
    raises KeyboardInterrupt. A third one changes nothing again while this is entered.

    Attributes:
      received: what arrived first, or None.
    """

    received: signal.Signals | None = None
    _interrupts = 0

    def __enter__(self) -> "StopRequest":
        self._previous = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # Everything is saved: another request to stop need not kill what remains to be said.
            done = self.received is not None and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if done else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self._interrupts += 1
            if self._interrupts > 1:
                # Or it would cut off what `exit_at_once` says.
                signal.signal(number, signal.SIG_IGN)
                raise KeyboardInterrupt
        if self.received is None:
            self.received = signal.Signals(number)


@contextlib.contextmanager
def exit_at_once(lost: Callable[[], str]) -> Iterator[None]:
    """While entered, a KeyboardInterrupt ends the process without waiting for anything.

    A notebook or an interactive Python lives on: there the KeyboardInterrupt goes through.

    Args:
      lost: says what is lost by that.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"stopped at once: {lost()}", file=sys.stderr, flush=True)
        if hasattr(sys, "ps1"):
            raise
        os._exit(EXIT_INTERRUPTED)
