"""A run's numbers on their way from the devices to the sinks, and to the terminal or the log."""

import time
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vgg_jax.data.sources import data_name
from vgg_jax.progress import Progress
from vgg_jax.runs.directory import Workdir, readable_metrics
from vgg_jax.training.diagnosis import Watch
from vgg_jax.training.optimizers import Plateau
from vgg_jax.training.setup import Run
from vgg_jax.training.sinks import Events, JsonLines, Sink, Values
from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import Metrics
from vgg_jax.training.trackers import Tracking


class Recorder:
    """The metrics of a run: read from the devices, averaged, written and shown.

    A dispatch is read while the next one runs, so that the devices never wait for the host.

    Attributes:
      last: the latest value of every metric, of earlier processes of the run too.
      first_step_seconds: from the start of the command to the end of the first dispatch.
    """

    def __init__(
        self,
        config: ConfigDict,
        run: Run,
        plateau: Plateau,
        watch: Watch,
        workdir: Workdir | None,
        start: int,
        started: float,
    ) -> None:
        """Opens the sinks; drops the lines past step `start`, which are made again now.

        Args:
          config: of the run.
          run: its parts.
          plateau: what the learning rate is multiplied by.
          watch: looks at every step.
          workdir: the run directory, or None on processes that write and show nothing.
          start: steps made so far.
          started: `time.perf_counter()` when the command started.

        Raises:
          StorageError: the run directory cannot be written, now or later.
        """
        self._config = config
        self._run = run
        self._plateau = plateau
        self._watch = watch
        self._started = started
        self._workdir = workdir
        self._sinks: list[Sink] = []
        self._trackers: list[Tracking] = []
        self.last: Values = {}
        self._evaluated: set[float] = set()
        kept: list[Values] = []
        damaged: list[str] = []
        if workdir is not None:
            lines, damaged = readable_metrics(workdir.path)
            kept = [line for line in lines if line["step"] <= start]
            for line in kept:
                self.last |= {name: value for name, value in line.items() if name != "step"}
            self._evaluated = {line["step"] for line in kept if "eval/top1" in line}
            self._sinks = [JsonLines(workdir.path, kept), Events(workdir.path, start)]
        self._progress = Progress(start, run.total_steps, enabled=workdir is not None)
        self._pending: tuple[int, Metrics] | None = None
        self._steps: list[Values] = []  # since the last line of metrics
        self._busy_seconds = 0.0  # in training steps, the first one (compilation) left out
        self._busy_steps = 0
        self._clock = time.perf_counter()
        self.first_step_seconds: float | None = None
        for complaint in damaged:
            self.say(f"{complaint}; dropped")
        if workdir is not None:
            for name in dict.fromkeys(config.log.trackers):
                self._trackers.append(Tracking(name, workdir.path, config, kept, self.say))
            self._sinks += self._trackers

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *error: object) -> None:
        for sink in self._sinks:
            sink.close()
        self._progress.close()

    @property
    def images_per_second(self) -> float | None:
        """Mean speed of the training steps after the first dispatch, or None."""
        if not self._busy_seconds:
            return None
        return self._busy_steps * self._config.data.batch_size / self._busy_seconds

    def say(self, message: str) -> None:
        """Shows a message."""
        self._progress.say(message)

    def dispatched(self, state: TrainState, step: int, metrics: Metrics) -> None:
        """Takes the metrics of a dispatch that has just started, and reads those of the one before.

        Args:
          state: after the dispatch.
          step: steps made after it.
          metrics: scalars, or (k,) of k steps.

        Raises:
          NonFiniteError: see `Watch.check`.
        """
        before, self._pending = self._pending, (step, metrics)
        self._read(state, before)

    def read(self, state: TrainState) -> None:
        """Waits for the metrics of the last dispatch.

        Raises:
          NonFiniteError: see `Watch.check`.
        """
        before, self._pending = self._pending, None
        self._read(state, before)

    def pause_ended(self) -> None:
        """Leaves the time since the last dispatch out of the speed of the next one."""
        self._clock = time.perf_counter()

    def evaluated(self, step: int, scores: Values) -> None:
        """Records an evaluation, once: a resumed run may have to make one again."""
        if step not in self._evaluated:
            self._write(step, {f"eval/{name}": value for name, value in scores.items()})
        data = self._config.data
        scored = f"{data_name(data)} {data.eval_split}".rstrip()  # a folder may have no splits
        self.say(
            f"step {step}: {scored} top-1 {scores['top1']:.2%}, top-5 {scores['top5']:.2%}, "
            f"loss {scores['loss']:.4f} "
            f"({scores['examples']:,} examples, {self._run.eval_data.crop})"
        )

    def ended(self, summary: dict[str, Any]) -> None:
        """Gives the trackers what is in `summary.json`, and the files of the run."""
        for tracker in self._trackers:
            tracker.finish(summary)

    def _read(self, state: TrainState, dispatch: tuple[int, Metrics] | None) -> None:
        if dispatch is None:
            return
        last, metrics = dispatch
        columns = {name: np.atleast_1d(value) for name, value in jax.device_get(metrics).items()}
        count = len(columns["loss"])
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        if self.first_step_seconds is None:
            self.first_step_seconds = now - self._started
        else:
            self._busy_seconds += seconds
            self._busy_steps += count
        for i in range(count):
            step = last - count + 1 + i
            values = {name: float(column[i]) for name, column in columns.items()}
            self._watch.check(state, step, values["loss"], values["gradient_norm"])
            self._steps.append(values | {"seconds": seconds / count})
            self._progress.advance()
            every = self._config.log.every_steps
            if step % every == 0 or step == self._run.total_steps:
                self._write_mean(step)

    def _write_mean(self, step: int) -> None:
        steps, self._steps = self._steps, []
        mean = {name: float(np.mean([values[name] for values in steps])) for name in steps[0]}
        line = {
            "train/loss": mean["loss"],
            "train/top1": mean["top1"],
            "train/gradient_norm": mean["gradient_norm"],
            "train/learning_rate": float(self._run.schedule(step - 1)) * self._plateau.factor,
            "train/images_per_second": self._config.data.batch_size / mean["seconds"],
        }
        self._write(step, line)
        self._progress.report(step, line)

    def _write(self, step: int, line: Values) -> None:
        self.last |= line
        if self._workdir is not None:
            self._workdir.check()
        for sink in self._sinks:
            sink.write(step, line)
