"""Where a run's numbers go: metrics.jsonl, TensorBoard events, and the terminal or the log."""

import json
import sys
import time
from pathlib import Path
from types import TracebackType

from tensorboardX import SummaryWriter
from tqdm import tqdm

Values = dict[str, float]


class MetricsWriter:
    """Appends to `metrics.jsonl` and `tensorboard/` of a run; without a folder, writes nothing."""

    def __init__(self, workdir: Path | None, start_step: int) -> None:
        """Opens the files, dropping lines of steps past `start_step`, which will be made again."""
        self._lines = self._events = None
        if workdir is None:
            return
        path = workdir / "metrics.jsonl"
        if path.exists():
            _truncate(path, start_step)
        self._lines = path.open("a")
        # purge_step hides what an interrupted run wrote past its last checkpoint.
        self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=start_step + 1)

    def write(self, step: int, values: Values) -> None:
        """Writes one line {"step": step, **values} and the same as events."""
        if self._lines is None or self._events is None:
            return
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes both files."""
        if self._lines is not None and self._events is not None:
            self._lines.close()
            self._events.close()


def _truncate(path: Path, last_step: int) -> None:
    """Keeps the complete lines of steps up to `last_step`."""
    kept = []
    for line in path.read_text().splitlines():
        try:
            step = json.loads(line)["step"]
        except ValueError:
            break  # cut off in the middle of a write
        if step <= last_step:
            kept.append(line + "\n")
    replacement = path.with_suffix(".tmp")
    replacement.write_text("".join(kept))
    replacement.replace(path)


class Progress:
    """A progress bar on a terminal, plain lines in a log; silent where not `enabled`."""

    def __init__(self, start_step: int, total_steps: int, *, enabled: bool) -> None:
        self._total = total_steps
        self._enabled = enabled
        self._started = time.perf_counter()
        self._start_step = start_step
        self._bar = None
        if enabled and sys.stderr.isatty():
            self._bar = tqdm(initial=start_step, total=total_steps, unit="step", dynamic_ncols=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """Counts one step."""
        if self._bar is not None:
            self._bar.update()

    def report(self, step: int, values: Values) -> None:
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
        """Prints a message, above the bar where there is one."""
        if self._bar is not None:
            self._bar.write(message)
        elif self._enabled:
            print(message, flush=True)
