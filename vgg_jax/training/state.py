"""The training state: arrays only, so that a checkpoint is nothing but them and a little JSON."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from vgg_jax.rng import stream_key

PyTree = Any


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step changes.

    Attributes:
      step: int32 scalar, updates made so far, and the number of the batch that comes next.
      params: float32 parameters.
      batch_stats: running mean and variance of batch norm; empty without it.
      opt_state: the optimiser's state.
      healthy: bool scalar; False from the first loss or gradient on that was not finite. That step
        and all later ones change nothing else.
      ema: moving average of `params`, or None if it is off.
    """

    step: jax.Array
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    healthy: jax.Array
    ema: PyTree | None = None

    def eval_variables(self) -> dict[str, PyTree]:
        """Returns the variables that evaluation uses: the averaged parameters if kept."""
        params = self.params if self.ema is None else self.ema
        return {"params": params, "batch_stats": self.batch_stats}


def init_variables(model: nn.Module, seed: int, image_size: int) -> dict[str, PyTree]:
    """Returns the initial {"params", "batch_stats"} of a model for square RGB images."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = model.init({"params": stream_key(seed, "params")}, images, train=False)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def new_state(
    variables: dict[str, PyTree], optimizer: optax.GradientTransformation, *, with_ema: bool
) -> TrainState:
    """Returns the state before the first step."""
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(params),
        healthy=jnp.ones((), bool),
        # A copy: a donated buffer may not appear twice in the state.
        ema=jax.tree.map(jnp.copy, params) if with_ema else None,
    )
