"""Preemption: SIGTERM and Ctrl-C ask the loop to save and stop; a second Ctrl-C ends it at once."""

import signal
import threading
from types import FrameType, TracebackType


class StopRequest:
    """While entered, notes a SIGTERM or SIGINT instead of dying of it.

    Attributes:
      received: what arrived, or None.
    """

    received: signal.Signals | None = None

    def __enter__(self) -> "StopRequest":
        self._previous = {}
        if threading.current_thread() is threading.main_thread():  # Python allows no other
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
