"""Training, top to bottom: set up, resume if an earlier run stopped, loop, sum up."""

import dataclasses
import signal
import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vgg_jax.data.source import Source
from vgg_jax.data.sources import data_name
from vgg_jax.distributed import (
    all_or_none,
    exit_if_alone_in_error,
    exit_if_peer_lost,
    global_max,
)
from vgg_jax.evaluation.scoring import accuracies
from vgg_jax.json_files import write_json
from vgg_jax.runs.directory import (
    CHECKPOINTS,
    SUMMARY_FILE,
    finished_summary,
    open_workdir,
    resumed_config,
    storing,
)
from vgg_jax.runs.record import environment
from vgg_jax.training.checkpoints import Checkpoints
from vgg_jax.training.diagnosis import Watch
from vgg_jax.training.optimizers import Plateau, set_rate_factor
from vgg_jax.training.preemption import StopRequest, exit_at_once
from vgg_jax.training.pretrained import describe_start
from vgg_jax.training.probing import Probe
from vgg_jax.training.setup import Run, build, first_state
from vgg_jax.training.state import TrainState
from vgg_jax.training.writers import Recorder


def train(
    config: ConfigDict,
    workdir: Path,
    started: float,
    sources: tuple[Source, Source] | None = None,
) -> dict[str, Any]:
    """Trains as configured, resuming from the newest checkpoint in `workdir`.

    Args:
      config: as from `configs/`.
      workdir: run directory, made if absent.
      started: `time.perf_counter()` when the command started, for the time to the first step.
      sources: see `setup.build`.

    Returns:
      What is also in `summary.json`; "exit_reason" is "finished", "SIGTERM" or "SIGINT".

    Raises:
      UserError: the config, the data or the folder are at fault.
      NonFiniteError: training diverged; the last good checkpoint is kept.
      StorageError: the run directory can no longer be written; the checkpoints in it are kept.
    """
    is_main = jax.process_index() == 0
    with exit_if_peer_lost():
        run = all_or_none(lambda: build(resumed_config(workdir, config), sources))
        config = run.config
        before = all_or_none(lambda: finished_summary(workdir, config, run.total_steps))
        if before is not None:  # nothing is left to do, or to write
            return before
        held = all_or_none(lambda: open_workdir(workdir, config) if is_main else None)

    with (
        closing(held) if held is not None else nullcontext(),
        Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep) as checkpoints,
    ):
        with exit_if_peer_lost():
            state, plateau, owed = _newest_state(config, run, checkpoints)
        start = done = int(state.step)
        watch = Watch(config, run, lambda: _last_checkpoint(checkpoints, workdir))
        stop_signal = 0
        with (
            Recorder(config, run, plateau, watch, held, start, started) as recorder,
            closing(Probe(config, run, workdir if is_main else None, start)) as probe,
            closing(run.feed(start, run.total_steps)) as feed,
            StopRequest() as stop,
            exit_at_once(lambda: _lost(done, checkpoints)),
            exit_if_peer_lost(),
            exit_if_alone_in_error(),
        ):
            for line in _announcement(config, run, workdir, state):
                recorder.say(line)
            if held is not None and held.note is not None:
                recorder.say(held.note)
            if owed:
                state, _ = _evaluate(config, run, state, plateau, recorder)
            recorder.pause_ended()
            for step, inputs in feed:
                if probe.due(done):
                    recorder.read(state)
                    probe.measure(state, done)
                    recorder.pause_ended()
                # Asked before the dispatch and read after it: no device waits for the answer, and
                # a signal to any process stops all of them after the same step.
                asked = global_max(stop.received or 0)
                state, metrics = run.advance(state, inputs)
                done = step
                recorder.dispatched(state, step, metrics)

                stop_signal = int(asked)
                last = step == run.total_steps or stop_signal > 0
                evaluates = not stop_signal and (last or _due(step, config.eval.every_steps))
                saves = last or _due(step, config.checkpoint.every_steps)
                if evaluates or saves:
                    recorder.read(state)
                    top1 = None
                    if evaluates:
                        state, top1 = _evaluate(config, run, state, plateau, recorder)
                    if saves:
                        extras = {"plateau": dataclasses.asdict(plateau), "evaluated": evaluates}
                        checkpoints.save(state, extras, top1)
                    recorder.pause_ended()
                if last:
                    break
            checkpoints.wait()  # before another signal may end this process
            summary = _summary(config, run, state, recorder, stop_signal, started)
            if held is not None:
                held.check()
                with storing(workdir / SUMMARY_FILE):
                    write_json(workdir / SUMMARY_FILE, summary)
            recorder.ended(summary)
    return summary


def _summary(
    config: ConfigDict,
    run: Run,
    state: TrainState,
    recorder: Recorder,
    stop_signal: int,
    started: float,
) -> dict[str, Any]:
    return {
        "exit_reason": signal.Signals(stop_signal).name if stop_signal else "finished",
        "steps": int(state.step),
        "metrics": recorder.last,
        "protocol": {
            "dataset": data_name(config.data),
            "split": config.data.eval_split,
            "crop": run.eval_data.crop,
            "image_size": config.data.image_size,
        },
        "data_fingerprints": run.fingerprints,
        "unreadable_examples": len(run.train_data.unreadable),
        "parameters": _parameters(state),
        "wall_seconds": time.perf_counter() - started,
        "seconds_to_first_step": recorder.first_step_seconds,
        "images_per_second": recorder.images_per_second,
        **environment(),
    }


def _newest_state(
    config: ConfigDict, run: Run, checkpoints: Checkpoints
) -> tuple[TrainState, Plateau, bool]:
    """Returns the state to resume from, or the one before the first step.

    And whether an evaluation of it is owed: a process that is asked to stop does not evaluate.
    """
    restored = checkpoints.restore(run.parallel.abstract(run.init_fn))
    if restored is not None:
        state, extras = restored
        step = int(state.step)
        due = _due(step, config.eval.every_steps) or step >= run.total_steps
        return state, Plateau(**extras["plateau"]), due and not extras.get("evaluated", True)
    plateau = Plateau(
        decay=config.optimizer.decay_factor,
        patience=config.optimizer.plateau_patience,
        max_drops=config.optimizer.plateau_drops,
    )
    return first_state(run, config), plateau, False


def _announcement(config: ConfigDict, run: Run, workdir: Path, state: TrainState) -> list[str]:
    start = int(state.step)
    lines = [
        f"{config.model.variant} ({_parameters(state):,} parameters) on {data_name(config.data)}: "
        f"{run.train_data.num_examples:,} training and {run.eval_data.num_examples:,} "
        f"{config.data.eval_split} images, {run.total_steps:,} steps of "
        f"{config.data.batch_size}, {run.parallel.devices} {jax.default_backend()} device(s)",
        f"run directory {workdir}",
    ]
    named = run.data_classes
    if named < config.model.num_classes:
        lines.append(
            f"the data has {named} classes and the network {config.model.num_classes:,}: if these "
            f"are all, give --config.model.num_classes={named}"
        )
    if config.init.weights is not None and not start:
        lines.append(describe_start(config, run.model))
    if start:
        lines.append(f"resuming after step {start}")
    return lines


def _evaluate(
    config: ConfigDict, run: Run, state: TrainState, plateau: Plateau, recorder: Recorder
) -> tuple[TrainState, float]:
    """Scores every evaluation example and follows the plateau rule; returns state and top-1."""
    step = int(state.step)
    sums = [run.eval_step(state, run.parallel.put(batch)) for batch in run.eval_data]
    totals = {name: sum(float(s[name]) for s in sums) for name in sums[0]}
    scores = accuracies(totals, run.eval_data.num_examples)
    recorder.evaluated(step, scores)
    if config.optimizer.schedule == "plateau" and plateau.observe(1 - scores["top1"]):
        opt_state = set_rate_factor(state.opt_state, plateau.factor)
        state = state.replace(opt_state=opt_state)
        recorder.say(f"step {step}: learning rate times {plateau.factor:g} from now on")
    return state, scores["top1"]


def _last_checkpoint(checkpoints: Checkpoints, workdir: Path) -> str:
    kept = checkpoints.steps()
    which = f"the last good checkpoint is of step {kept[-1]}" if kept else "no checkpoint"
    return f"{which} in {workdir}"


def _lost(done: int, checkpoints: Checkpoints) -> str:
    saved = max(checkpoints.steps(), default=0)
    return f"the steps {saved + 1} to {done} are lost" if done > saved else "no step is lost"


def _parameters(state: TrainState) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(state.params))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
