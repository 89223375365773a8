"""Progress of training: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm


class Progress:
    """A progress bar on a terminal, plain lines in a log; silent unless `enabled`."""

    def __init__(self, start_step: int, total_steps: int, *, enabled: bool) -> None:
        self._total = total_steps
        self._enabled = enabled
        self._started = time.perf_counter()
        self._start_step = start_step
        self._bar = None
        if enabled and sys.stderr.isatty():
            self._bar = tqdm(initial=start_step, total=total_steps, unit="step", dynamic_ncols=True)

    def close(self) -> None:
        """Closes the bar."""
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """Counts one step."""
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the training metrics of a step, and in a log the time left."""
        text = (
            f"loss {values['train/loss']:.4f}  accuracy {values['train/top1']:.1%}  "
            f"{values['train/images_per_second']:.1f} images/s"
        )
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            return
        done = step - self._start_step
        left = (time.perf_counter() - self._started) / max(1, done) * (self._total - step)
        minutes, seconds = divmod(round(left), 60)
        self.say(f"step {step}/{self._total}  {text}  {minutes}:{seconds:02d} left")

    def say(self, message: str) -> None:
        """Prints a message, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(message)
        elif self._enabled:
            print(message, flush=True)
