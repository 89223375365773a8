"""Gradient norms of every parameter from inside an Optax chain, for a training loop of one's own.

As a link of a chain, whose state then has them:

    optimizer = optax.chain(track_gradients(), optax.adam(1e-3))
    ...
    norms = optax.tree.get(opt_state, "gradient_norms")     {"Block_0/Dense_1/kernel": ..., ...}
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vgg_jax.probes.statistics import l2_norm, named_leaves

PyTree = Any


class TrackedGradients(NamedTuple):
    """The state of `track_gradients`.

    Attributes:
      gradient_norms: L2 norm of what the last step passed through, by the parameter's name, float32
        scalars; zero before the first step.
    """

    gradient_norms: dict[str, jax.Array]


def track_gradients() -> optax.GradientTransformation:
    """Returns the link of a chain that keeps the norm of every gradient, and changes none.

    As the first link it sees the gradients of the loss, before clipping and decay; as the last one
    the updates that the parameters get. The norms are a part of the optimiser's state, so they are
    there after every step, also of one that is compiled, and are saved with a checkpoint.
    """

    def init(params: PyTree) -> TrackedGradients:
        return TrackedGradients({name: jnp.zeros(()) for name in named_leaves(params)})

    def update(
        updates: PyTree, state: TrackedGradients, params: PyTree | None = None
    ) -> tuple[PyTree, TrackedGradients]:
        del state, params
        norms = {name: l2_norm(leaf) for name, leaf in named_leaves(updates).items()}
        return updates, TrackedGradients(norms)

    return optax.GradientTransformation(init, update)
