"""Scales of signals and gradients, layer by layer.

A probe sees a model only as a function: `forward(perturbations)` adds an array to each named
intermediate and returns (loss, intermediates); the gradient with respect to a perturbation of zero
is the gradient with respect to that intermediate.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Arrays = dict[str, jax.Array]
Forward = Callable[[Arrays], tuple[jax.Array, Arrays]]


def root_mean_square(x: jax.Array) -> jax.Array:
    """Returns sqrt(mean(x^2)) over all elements: float32 scalar."""
    return jnp.sqrt(jnp.mean(jnp.square(x.astype(jnp.float32))))


def layer_scales(forward: Forward, names: Sequence[str]) -> tuple[Arrays, Arrays]:
    """Measures intermediates and the gradients of the loss with respect to them.

    Args:
      forward: see the module.
      names: intermediates to measure, such as the pre-activations "conv1_1", ..., "fc8".

    Returns:
      Root mean square over batch, positions and channels of each intermediate, and of its
      gradient: two {name: float32 scalar}.
    """
    _, shapes = jax.eval_shape(forward, {})
    zeros = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in names}
    gradients, values = jax.grad(forward, has_aux=True)(zeros)
    return (
        {name: root_mean_square(values[name]) for name in names},
        {name: root_mean_square(gradients[name]) for name in names},
    )
