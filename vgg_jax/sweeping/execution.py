"""One run of a sweep, as a process of its own: skipped, retried, or stopped cleanly."""

import contextlib
import dataclasses
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping

from vgg_jax.sweeping.trials import Trial

LOG_FILE = "log.txt"
LEFT = "left for later"
_CLAIM_FILE = ".claim"
_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
      status: "finished", "failed", "stopped" or `LEFT`, if there is no time for it.
      attempts: times it was started now; 0 if it was finished before.
      exit_status: of the last attempt; None if there was none.
    """

    status: str
    attempts: int
    exit_status: int | None = None


def execute(
    trial: Trial, retries: int, environment: Mapping[str, str], stop: threading.Event
) -> Outcome:
    """Starts or resumes a run in a process of its own and waits for its end.

    Where another process is at it, such as one left by a sweep that was killed, that one is waited
    for first. Output goes to `log.txt` in the run directory.

    Args:
      trial: the run.
      retries: starts after the first one, if it ends without finishing.
      environment: variables set for it besides those of this process.
      stop: asks the run to save and end.
    """
    trial.workdir.mkdir(parents=True, exist_ok=True)
    attempts, status = 0, None
    with _claimed(trial, stop) as lock:
        while not trial.finished():
            if stop.is_set():
                return Outcome("stopped", attempts, status)
            if attempts > retries:
                return Outcome("failed", attempts, status)
            attempts += 1
            status = _attempt(trial, environment, stop, lock)
    return Outcome("finished", attempts, status)


def _attempt(trial: Trial, environment: Mapping[str, str], stop: threading.Event, lock: int) -> int:
    """Starts the command once and returns its exit status."""
    with (trial.workdir / LOG_FILE).open("a") as log:
        log.write(f"$ {trial.command()}\n")
        log.flush()
        process = subprocess.Popen(
            [sys.executable, *trial.arguments()],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Out of the terminal's reach: Ctrl-C comes to it through `stop`, once.
            start_new_session=True,
            # It holds the claim as long as it lives, even where this process is killed.
            pass_fds=(lock,),
        )
        try:
            while (status := process.poll()) is None and not stop.wait(_POLL_SECONDS):
                pass
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # the run saves a checkpoint and ends
            status = process.wait()
    return status


@contextlib.contextmanager
def _claimed(trial: Trial, stop: threading.Event) -> Iterator[int]:
    """Holds the run directory against other processes; gives up waiting when asked to stop."""
    with (trial.workdir / _CLAIM_FILE).open("w") as file:
        while not stop.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_POLL_SECONDS)
        yield file.fileno()


def is_claimed(trial: Trial) -> bool:
    """Returns whether a process is at the run now."""
    path = trial.workdir / _CLAIM_FILE
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
