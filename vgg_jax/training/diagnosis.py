"""What to tell a user whose training does not train: where it broke, or how small its signals are.

All of it is measured by the step's own loss: its micro-batches, dropout masks and label smoothing.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from vgg_jax.probes.gradients import layer_scales
from vgg_jax.training.setup import Run
from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import Arrays, Batch, TrainLoss, augmented

STUCK_TOLERANCE = 0.01  # of ln(classes), the loss of guessing


class NonFiniteError(Exception):
    """The loss or the gradient became NaN or infinite; the message names step and layer."""


class Watch:
    """Looks at the metrics of every step: stops a run that diverged, warns of one that is stuck."""

    def __init__(self, config: ConfigDict, run: Run, last_checkpoint: Callable[[], str]) -> None:
        """Starts to watch.

        Args:
          config: of the run.
          run: its parts.
          last_checkpoint: says, in words, what the run can be resumed from.
        """
        self._config = config
        self._run = run
        self._last_checkpoint = last_checkpoint
        self._losses: list[float] = []  # the latest, as many as one line of metrics averages

    def check(self, state: TrainState, step: int, loss: float, gradient_norm: float) -> None:
        """Looks at step `step`; `state` is the one after it, or a later one.

        Raises:
          NonFiniteError: the loss or the gradient norm is not finite.
        """
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            # A step that is not finite changes nothing: the state is still the one before it.
            where = first_nonfinite(self._run.loss, state, self._batch(step - 1))
            raise NonFiniteError(
                f"step {step}: loss {loss:g}, gradient norm {gradient_norm:g}; "
                f"the first array that is not finite: {where}.\n"
                "Try a lower --config.optimizer.learning_rate, or "
                f"--config.optimizer.clip_norm=1.0; {self._last_checkpoint()}"
            )
        self._losses = [*self._losses, loss][-self._config.log.every_steps :]
        if step == self._config.log.stuck_after_steps:
            self._warn_if_stuck(state, step)

    def _warn_if_stuck(self, state: TrainState, step: int) -> None:
        classes = self._config.model.num_classes
        guessing, loss = math.log(classes), float(np.mean(self._losses))
        if abs(loss - guessing) > STUCK_TOLERANCE * guessing:
            return
        logging.warning(
            "step %d: the loss, %.4f, is still that of guessing, ln(%d) = %.4f. Scales now:\n%s\n"
            "A network cannot learn from signals that shrink from layer to layer: try "
            "--config.model.kernel_init=he_fan_in, orthogonal or lsuv (now %s), or "
            "--config.model.norm=batch. If the scales look well, try another "
            "--config.optimizer.learning_rate.",
            step,
            loss,
            classes,
            guessing,
            scale_report(self._run.loss, state, self._batch(step)),
            self._config.model.kernel_init,
        )

    def _batch(self, step: int) -> Batch:
        batch = self._run.parallel.put(self._run.train_data.batch(step))
        return augmented(self._run.augment, self._config.seed, step, batch)


def first_nonfinite(loss: TrainLoss, state: TrainState, batch: Batch) -> str:
    """Names the first array of a step that holds a NaN or an infinity.

    Looked through in the order of computation: parameters, images, endpoints from the first layer
    to the last, the loss, then the weights' gradients from the last layer to the first.

    Args:
      loss: of the step.
      state: before the step.
      batch: global, {"image": float images as the network takes them, "label": int32}.

    Returns:
      For example "the activations of conv3_2".
    """
    names: list[str] = []

    @jax.jit
    def examine(state: TrainState, batch: Batch) -> list[jax.Array]:
        (value, endpoints), grads = jax.value_and_grad(
            lambda params: loss.of_batch(params, state, batch, {}), has_aux=True
        )(state.params)

        def named(tree: Any, kind: str) -> Arrays:
            return {
                f"{kind} {jax.tree_util.keystr(path, simple=True, separator='/')}": leaf
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            }

        arrays = named(state.params, "the parameter") | {"the images": batch["image"]}
        arrays |= {f"the activations of {name}": x for name, x in endpoints.items()}
        arrays["the loss"] = value
        # Of a layer with batch norm, the normalisation's gradient comes first.
        for layer in reversed(loss.model.layer_names):
            for part in (layer.replace("conv", "bn"), layer):
                if part in grads:
                    arrays |= named({part: grads[part]}, "the gradient of")
        # A list, because jit would sort a dictionary: the order of computation is what we want.
        names[:] = arrays
        return [jnp.all(jnp.isfinite(x)) for x in arrays.values()]

    for finite, name in zip(jax.device_get(examine(state, batch)), names, strict=True):
        if not finite:
            return name
    return "the norm of the gradient, whose square is too large for float32"


def scale_report(loss: TrainLoss, state: TrainState, batch: Batch) -> str:
    """Returns the scales of pre-activations and of their gradients, one line per layer.

    Args:
      loss: of the step.
      state: before the step.
      batch: as for `first_nonfinite`.
    """
    layers = list(loss.model.preactivations.values())

    @jax.jit
    def measure(state: TrainState, batch: Batch) -> tuple[Arrays, Arrays]:
        return layer_scales(lambda zeros: loss.of_batch(state.params, state, batch, zeros), layers)

    values, gradients = jax.device_get(measure(state, batch))
    lines = [f"  {'layer':10s} {'RMS':>10s} {'RMS of dL/dz':>14s}"]
    lines += [f"  {name:10s} {values[name]:10.3g} {gradients[name]:14.3g}" for name in layers]
    return "\n".join(lines)
