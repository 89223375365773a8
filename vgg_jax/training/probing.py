"""The probes along a run: every n steps, tidy tables under `WORKDIR/probes/`."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from vgg_jax.data.sources import data_name
from vgg_jax.models.fields import ACTIVATIONS
from vgg_jax.probes.gradients import Measured, layer_statistics
from vgg_jax.probes.noise import gradient_noise
from vgg_jax.runs.directory import LAYERS_FILE, storing
from vgg_jax.runs.tables import TableWriter, tidy_rows
from vgg_jax.training.setup import Run
from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import Batch, augmented
from vgg_jax.xla import NETWORK, on_cpu

MICRO_BATCHES = 4  # that the noise of the gradient is estimated from


class Probe:
    """Measures the state before a step on the batch of that step, as the step will see it.

    Nothing is compiled, written or held while it is off.
    """

    def __init__(self, config: ConfigDict, run: Run, workdir: Path | None, start: int) -> None:
        """Opens the table, dropping rows of step `start` and later, which will be made again.

        Args:
          config: read are `probe.every_steps`, 0 for off, and what describes the run.
          run: its parts.
          workdir: the run directory, or None on processes that write nothing.
          start: steps made so far.
        """
        self._every = config.probe.every_steps
        self._run = run
        self._writer: TableWriter | None = None
        if not self._every:
            return
        if workdir is not None:
            path = workdir / LAYERS_FILE
            path.parent.mkdir(exist_ok=True)
            with storing(path):
                self._writer = TableWriter(path, before_step=start)
        self._columns = {
            "net": config.model.variant if config.model.stages is None else "own",
            "init": config.model.kernel_init,
            "norm": config.model.norm,
            "activation": config.model.activation,
            "pooling": config.model.pooling,
            "data": data_name(config.data),
            "batch_size": config.data.batch_size,
            "seed": config.seed,
        }
        self._measure = make_probe(config, run)

    def due(self, step: int) -> bool:
        """Says whether to measure after `step` steps."""
        return self._every > 0 and step % self._every == 0

    def measure(self, state: TrainState, step: int) -> None:
        """Appends a row for each layer and quantity; `step` is the number of steps made."""
        measured = self._measure(state, self._run.parallel.put(self._run.train_data.batch(step)))
        rows = tidy_rows(
            jax.device_get(measured), self._run.model.layer_names, **self._columns, step=step
        )
        if self._writer is not None:
            with storing(LAYERS_FILE):
                self._writer.write(rows)

    def close(self) -> None:
        """Closes the table."""
        if self._writer is not None:
            self._writer.close()


def make_probe(config: ConfigDict, run: Run) -> Callable[[TrainState, Batch], Measured]:
    """Returns the jitted (state, batch) -> {quantity: {layer: scalar}}.

    The quantities are those of `layer_statistics`, of `gradient_noise` if the batch can be cut
    into micro-batches, and the loss, whose layer is "all". The activations of the whole batch are
    held at once, even if `optimizer.accumulate` splits it for the step.
    """
    model, loss = run.model, run.loss
    parts = micro_batches(config.data.batch_size, config.model.norm_group or 1)
    # What a micro-batch of the noise's estimate is to the step: a batch of its own.
    part_loss = dataclasses.replace(loss, accumulate=1)

    @functools.partial(jax.jit, compiler_options=on_cpu(NETWORK))
    def measure(state: TrainState, batch: Batch) -> Measured:
        seen = augmented(run.augment, loss.seed, state.step, batch)
        measured, value = layer_statistics(
            lambda params, perturbations: loss.of_batch(params, state, seen, perturbations),
            state.params,
            model.preactivations,
            ACTIVATIONS[model.activation],
            lambda grads: run.optimizer.update(grads, state.opt_state, state.params)[0],
        )
        if parts > 1:
            measured |= gradient_noise(
                lambda params, part: part_loss.of_batch(params, state, part, {})[0],
                state.params,
                seen,
                parts,
                model.layer_names,
            )
        return measured | {"loss": {"all": value}}

    return measure


def micro_batches(batch_size: int, group: int) -> int:
    """Returns how many parts of whole groups to cut a batch in: the most, up to MICRO_BATCHES."""
    return next(n for n in range(MICRO_BATCHES, 0, -1) if batch_size % (n * group) == 0)
