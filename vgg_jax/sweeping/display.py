"""How far a sweep has got: a live table on a terminal, a line for each event in a log."""

import collections
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

from vgg_jax.runs.reader import StoredRun
from vgg_jax.sweeping.execution import LOG_FILE, Outcome, is_claimed
from vgg_jax.sweeping.trials import Trial


class Display:
    """Follows runs by what they write to their folders, wherever they are made."""

    def __init__(self, trials: Sequence[Trial], console: Console) -> None:
        """Takes all runs of the sweep, also those finished before, and where to write."""
        self._trials = trials
        self._final: dict[str, tuple[str, ...]] = {}  # rows that will not change
        self._console = console
        self._live = None
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self.refresh()
            self._live.stop()

    def ended(self, trial: Trial, outcome: Outcome) -> None:
        """Takes in the end of a run."""
        self._final[trial.name] = _row(trial, outcome)
        if self._live:
            return
        text = f"{trial.name}: {outcome.status}"
        if outcome.status == "finished":
            text += f", {_figures(StoredRun(trial.workdir))}"
        elif outcome.status == "failed":
            text += f", {_reason(trial, outcome)}"
        text += f" ({len(self._final)} of {len(self._trials)} ended)"
        print(text, file=self._console.file, flush=True)

    def refresh(self) -> None:
        """Shows what the runs have written by now."""
        if not self._live:
            return
        rows = [self._final.get(trial.name) or _row(trial, None) for trial in self._trials]
        counts = collections.Counter(status for _, status, _, _ in rows)
        title = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        table = Table("run", "", "step", "", title=title)
        # What is over, or has not begun, gives way if the terminal is short.
        room = max(1, self._console.height - 6)
        order = sorted(rows, key=lambda row: ("running", "failed").count(row[1]) == 0)
        kept = set(order[:room])
        for row in rows:
            if row in kept:
                table.add_row(*row)
        self._live.update(table, refresh=True)


def _row(trial: Trial, outcome: Outcome | None) -> tuple[str, ...]:
    status = outcome.status if outcome else "running" if is_claimed(trial) else "waiting"
    run = StoredRun(trial.workdir)
    step = str(int(run.lines[-1]["step"])) if run.lines else ""
    return trial.name, status, step, _figures(run)


def _figures(run: StoredRun) -> str:
    loss, top1 = run.last("train/loss"), run.last("eval/top1")
    parts = [f"loss {loss:.4f}"] if loss is not None else []
    parts += [f"top-1 {top1:.2%}"] if top1 is not None else []
    return ", ".join(parts)


def _reason(trial: Trial, outcome: Outcome) -> str:
    path = trial.workdir / LOG_FILE
    lines = path.read_text().strip().splitlines() if path.exists() else ["nothing was written"]
    # An error may have a second line, which says what to type.
    last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
    times = "once" if outcome.attempts == 1 else f"{outcome.attempts} times"
    return f"tried {times}, exit status {outcome.exit_status}: {last}"
