"""Progress of training: a bar on a terminal or in a notebook, plain lines in a log."""

import importlib.util
import sys
import time
from collections.abc import Mapping

from tqdm import tqdm


def in_notebook() -> bool:
    """Says whether a Jupyter kernel runs this process."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _bar() -> type[tqdm] | None:
    """Returns the kind of bar that can be shown here: a widget in a notebook, if it has widgets."""
    if in_notebook() and importlib.util.find_spec("ipywidgets"):
        from tqdm.notebook import tqdm_notebook

        return tqdm_notebook
    return tqdm if sys.stderr.isatty() or in_notebook() else None


class Progress:
    """A bar on a terminal or in a notebook, plain lines in a log; silent unless `enabled`."""

    def __init__(self, start_step: int, total_steps: int, *, enabled: bool) -> None:
        self._total = total_steps
        self._enabled = enabled
        self._started = time.perf_counter()
        self._start_step = start_step
        self._bar = None
        kind = _bar()
        if enabled and kind is not None:
            self._bar = kind(initial=start_step, total=total_steps, unit="step", dynamic_ncols=True)

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
