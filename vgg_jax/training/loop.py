"""Training, top to bottom: set up, go on where an earlier run stopped, loop, sum up."""

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vgg_jax.evaluation.scoring import accuracies
from vgg_jax.runs.directory import SUMMARY_FILE, open_workdir, write_json
from vgg_jax.runs.record import environment
from vgg_jax.training import diagnosis
from vgg_jax.training.checkpoints import Checkpoints
from vgg_jax.training.distributed import all_or_none, exit_if_peer_lost, global_max
from vgg_jax.training.optimizers import Plateau, set_rate_factor
from vgg_jax.training.preemption import StopRequest
from vgg_jax.training.pretrained import describe_start
from vgg_jax.training.probing import Probe
from vgg_jax.training.resident import dispatch_ranges
from vgg_jax.training.setup import Run, build, first_state
from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import Metrics
from vgg_jax.training.writers import MetricsWriter, Progress, Values

STUCK_TOLERANCE = 0.01  # of ln(classes), the loss of guessing


class NonFiniteError(Exception):
    """The loss or the gradient became NaN or infinite; the message names step and layer."""


def train(config: ConfigDict, workdir: Path, started: float) -> dict[str, Any]:
    """Trains as configured, going on from the newest checkpoint in `workdir`.

    Args:
      config: as from `configs/`.
      workdir: run directory, made where absent.
      started: `time.perf_counter()` when the command started, for the time to the first step.

    Returns:
      What is also in `summary.json`; "exit_reason" is "finished", "SIGTERM" or "SIGINT".

    Raises:
      UserError: the config, the data or the folder are at fault.
      NonFiniteError: training diverged; the last good checkpoint is kept.
    """
    is_main = jax.process_index() == 0
    with exit_if_peer_lost():
        run = all_or_none(lambda: build(config))
        all_or_none(lambda: open_workdir(workdir, config) if is_main else None)
    checkpoints = Checkpoints(workdir / "checkpoints", config.checkpoint.keep)
    try:
        return _Loop(config, run, workdir, checkpoints, started, is_main).run()
    finally:
        checkpoints.close()


class _Loop:
    """One call of `train`; the attributes are what its phases share."""

    def __init__(
        self,
        config: ConfigDict,
        run: Run,
        workdir: Path,
        checkpoints: Checkpoints,
        started: float,
        is_main: bool,
    ) -> None:
        self._config = config
        self._run = run
        self._workdir = workdir
        self._checkpoints = checkpoints
        self._started = started
        self._is_main = is_main
        self._plateau = Plateau(
            decay=config.optimizer.decay_factor,
            patience=config.optimizer.plateau_patience,
            max_drops=config.optimizer.plateau_drops,
        )
        self._recent: list[Values] = []  # steps since the last line of metrics
        self._last: Values = {}
        self._first_step_seconds: float | None = None
        self._busy_seconds = 0.0  # in training steps, the first one (compilation) left out
        self._busy_steps = 0
        self._clock = 0.0

    def run(self) -> dict[str, Any]:
        run, config = self._run, self._config
        state, start = self._start()
        self._parameters = sum(x.size for x in jax.tree.leaves(run.parallel.storable(state).params))
        written = self._workdir if self._is_main else None
        self._writer = MetricsWriter(written, start)
        self._probe = Probe(config, run, written, start)
        self._progress = Progress(start, run.total_steps, enabled=self._is_main)
        self._announce(start)

        advance, feeds = run.dispatch or run.train_step, self._feeds(start)
        done = start
        pending: tuple[int, Metrics] | None = None
        stop_signal = 0
        try:
            with StopRequest() as stop, self._progress, exit_if_peer_lost():
                self._clock = time.perf_counter()
                for step, feed in feeds:
                    if self._probe.due(done):
                        if pending:
                            self._record(state, *pending)
                            pending = None
                        self._probe.measure(state, done)
                        self._clock = time.perf_counter()  # a step's speed is without it
                    # Asked before the dispatch and read after it: no device waits for the answer,
                    # and a signal to any process stops all of them after the same step.
                    asked = global_max(stop.received or 0)
                    state, metrics = advance(state, feed)
                    done = step
                    # The dispatch before is read while this one runs: the device never waits.
                    if pending:
                        self._record(state, *pending)
                    pending = (step, metrics)

                    stop_signal = int(asked)
                    last = step == run.total_steps or stop_signal > 0
                    evaluate = last or _due(step, config.eval.every_steps)
                    save = last or _due(step, config.checkpoint.every_steps)
                    if evaluate or save:
                        self._record(state, *pending)
                        pending = None
                        state = self._pause(state, step, evaluate and not stop_signal, save)
                    if last:
                        break
                self._checkpoints.wait()  # before another signal may end this process
                if start == run.total_steps:  # nothing left to do but to say how good it is
                    self._evaluate(state, start)
        finally:
            feeds.close()
            self._checkpoints.wait()
            self._writer.close()
            self._probe.close()
        reason = signal.Signals(stop_signal).name if stop_signal else "finished"
        return self._summarize(int(run.parallel.storable(state).step), reason)

    # --- Start -----------------------------------------------------------------------------------

    @exit_if_peer_lost()
    def _start(self) -> tuple[TrainState, int]:
        """Returns the state to go on from and the number of steps it has made."""
        parallel = self._run.parallel
        restored = self._checkpoints.restore(parallel.abstract(self._run.init_fn))
        if restored is None:
            return first_state(self._run, self._config), 0
        stored, extras = restored
        self._plateau = Plateau(**extras["plateau"])
        return parallel.place(stored), int(stored.step)

    def _announce(self, start: int) -> None:
        run, config = self._run, self._config
        devices = f"{run.parallel.devices} {jax.default_backend()} device(s)"
        self._progress.say(
            f"{config.model.variant} ({self._parameters:,} parameters) on {config.data.name}: "
            f"{run.train_data.num_examples:,} training and {run.eval_data.num_examples:,} "
            f"{config.data.eval_split} images, {run.total_steps:,} steps of "
            f"{config.data.batch_size}, {devices}"
        )
        self._progress.say(f"run directory {self._workdir}")
        if config.init.weights is not None and not start:
            self._progress.say(describe_start(config, run.model))
        if start:
            self._progress.say(f"going on after step {start}")

    # --- Each dispatch ---------------------------------------------------------------------------

    def _feeds(self, start: int) -> Generator[tuple[int, Any], None, None]:
        """Yields the number of the last step of each dispatch, and what to feed it."""
        run, config = self._run, self._config
        if run.dispatch is None:
            with contextlib.closing(run.train_data.iterate(start, run.total_steps)) as batches:
                for step, batch in enumerate(batches, start + 1):
                    yield step, run.parallel.put(batch)
            return
        pauses = (
            config.eval.every_steps,
            config.checkpoint.every_steps,
            config.probe.every_steps,
        )
        size = config.parallel.steps_per_dispatch
        for steps in dispatch_ranges(start, run.total_steps, size, pauses):
            yield steps.stop, np.stack([run.train_data.indices(s) for s in steps]).astype(np.int32)

    def _record(self, state: TrainState, last: int, metrics: Metrics) -> None:
        """Takes in the metrics of a dispatch up to step `last`; `state` may be one ahead."""
        columns = {name: np.atleast_1d(value) for name, value in jax.device_get(metrics).items()}
        count = len(columns["loss"])
        now = time.perf_counter()
        seconds = now - self._clock
        self._clock = now
        if self._first_step_seconds is None:
            self._first_step_seconds = now - self._started
        else:
            self._busy_seconds += seconds
            self._busy_steps += count
        for i in range(count):
            values = {name: float(column[i]) for name, column in columns.items()}
            self._record_step(state, last - count + 1 + i, values | {"seconds": seconds / count})

    def _record_step(self, state: TrainState, step: int, values: Values) -> None:
        if not all(math.isfinite(v) for v in (values["loss"], values["gradient_norm"])):
            raise NonFiniteError(self._explain_nonfinite(state, step, values))
        self._recent.append(values)
        self._progress.advance()

        if step == self._config.log.stuck_after_steps:
            self._warn_if_stuck(state, step)
        if _due(step, self._config.log.every_steps) or step == self._run.total_steps:
            mean = {
                name: float(np.mean([v[name] for v in self._recent])) for name in self._recent[0]
            }
            self._recent = []
            rate = float(self._run.schedule(step - 1)) * self._plateau.factor
            line = {
                "train/loss": mean["loss"],
                "train/top1": mean["top1"],
                "train/gradient_norm": mean["gradient_norm"],
                "train/learning_rate": rate,
                "train/images_per_second": self._config.data.batch_size / mean["seconds"],
            }
            self._last |= line
            self._writer.write(step, line)
            self._progress.report(step, line)

    def _pause(self, state: TrainState, step: int, evaluate: bool, save: bool) -> TrainState:
        """Evaluates and saves; returns the state, with a new rate where the plateau rule says."""
        top1 = None
        if evaluate:
            top1 = self._evaluate(state, step)
            if self._config.optimizer.schedule == "plateau" and self._plateau.observe(1 - top1):
                factor = self._plateau.factor
                state = state.replace(opt_state=set_rate_factor(state.opt_state, factor))
                self._progress.say(f"step {step}: learning rate times {factor:g} from here on")
        if save:
            extras = {"plateau": dataclasses.asdict(self._plateau)}
            self._checkpoints.save(self._run.parallel.storable(state), extras, top1)
        self._clock = time.perf_counter()
        return state

    def _evaluate(self, state: TrainState, step: int) -> float:
        run = self._run
        sums = [run.eval_step(state, run.parallel.put(batch)) for batch in run.eval_data]
        totals = {name: sum(float(s[name]) for s in sums) for name in sums[0]}
        scores = accuracies(totals, run.eval_data.num_examples)
        line = {f"eval/{name}": value for name, value in scores.items()}
        self._last |= line
        self._writer.write(step, line)
        self._progress.say(
            f"step {step}: {self._config.data.name} {self._config.data.eval_split} "
            f"top-1 {scores['top1']:.2%}, top-5 {scores['top5']:.2%}, loss {scores['loss']:.4f} "
            f"({scores['examples']:,} examples, {run.eval_data.crop})"
        )
        return scores["top1"]

    # --- When it goes wrong ----------------------------------------------------------------------

    def _diagnosis_inputs(self, state: TrainState, step: int) -> dict[str, Any]:
        """Returns the arguments of `diagnosis`: a state, and the batch that comes as `step`."""
        run, seed = self._run, self._config.seed
        batch = run.parallel.put_unmapped(run.train_data.batch(step - 1))
        return {
            "model": run.model,
            "seed": seed,
            "state": run.parallel.storable(state),
            "batch": diagnosis.augmented(run.augment, seed, step - 1, batch),
        }

    def _explain_nonfinite(self, state: TrainState, step: int, values: Values) -> str:
        where = diagnosis.first_nonfinite(**self._diagnosis_inputs(state, step))
        kept = self._checkpoints.steps()
        checkpoint = f"the last good checkpoint is of step {kept[-1]}" if kept else "no checkpoint"
        return (
            f"step {step}: loss {values['loss']:g}, gradient norm {values['gradient_norm']:g}; "
            f"first to go was {where}.\nTry a lower --config.optimizer.learning_rate, or "
            f"--config.optimizer.clip_norm=1.0; {checkpoint} in {self._workdir}"
        )

    def _warn_if_stuck(self, state: TrainState, step: int) -> None:
        guessing = math.log(self._config.model.num_classes)
        window = self._recent[-self._config.log.every_steps :]
        loss = float(np.mean([v["loss"] for v in window]))
        if abs(loss - guessing) > STUCK_TOLERANCE * guessing:
            return
        report = diagnosis.scale_report(**self._diagnosis_inputs(state, step + 1))
        logging.warning(
            "step %d: the loss, %.4f, is still that of guessing, ln(%d) = %.4f. Scales now:\n%s\n"
            "Signals that shrink from layer to layer cannot be learned from: try "
            "--config.model.kernel_init=he_fan_in, orthogonal or lsuv (now %s), or "
            "--config.model.norm=batch; where the scales look well, another "
            "--config.optimizer.learning_rate.",
            step,
            loss,
            self._config.model.num_classes,
            guessing,
            report,
            self._config.model.kernel_init,
        )

    # --- End -------------------------------------------------------------------------------------

    def _summarize(self, step: int, reason: str) -> dict[str, Any]:
        images = self._busy_steps * self._config.data.batch_size
        summary = {
            "exit_reason": reason,
            "steps": step,
            "metrics": self._last,
            "protocol": {
                "dataset": self._config.data.name,
                "split": self._config.data.eval_split,
                "crop": self._run.eval_data.crop,
                "image_size": self._config.data.image_size,
            },
            "parameters": self._parameters,
            "wall_seconds": time.perf_counter() - self._started,
            "seconds_to_first_step": self._first_step_seconds,
            "images_per_second": images / self._busy_seconds if self._busy_seconds else None,
            **environment(),
        }
        if self._is_main:
            write_json(self._workdir / SUMMARY_FILE, summary)
        return summary


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
