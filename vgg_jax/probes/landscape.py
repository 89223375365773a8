"""The loss around a point: along its gradient, and over a plane of filter-normalised directions.

A network is seen as `loss(params) -> scalar`, whatever made it. All functions can be compiled, with
the loss fixed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

PyTree = Any
Loss = Callable[[PyTree], jax.Array]


class Ray(NamedTuple):
    """What is found at some distances from a point, against its gradient.

    Attributes:
      loss: (distances,).
      gradient_change: (distances,), L2 distance of the gradient there from that at the point.
      smoothness: (distances,), the change per unit of distance; its largest value is the effective
        beta-smoothness.
    """

    loss: jax.Array
    gradient_change: jax.Array
    smoothness: jax.Array


def along_gradient(loss: Loss, params: PyTree, distances: jax.Array) -> Ray:
    """Walks from a point against its gradient (Santurkar et al. 2018, section 3.1, figure 4).

    The loss must be the same function at every point: one batch, and one draw of any noise.

    Args:
      loss: (params) -> scalar.
      params: the point.
      distances: (n,), L2 distances, positive.
    """
    gradient = jax.grad(loss)(params)
    length = global_norm(gradient)

    def visit(distance: jax.Array) -> tuple[jax.Array, jax.Array]:
        moved = jax.tree.map(lambda p, g: p - distance / length * g, params, gradient)
        value, there = jax.value_and_grad(loss)(moved)
        return value, global_norm(jax.tree.map(jnp.subtract, there, gradient))

    losses, changes = jax.lax.map(visit, distances)
    return Ray(losses, changes, changes / distances)


def filter_normalized(direction: PyTree, params: PyTree) -> PyTree:
    """Scales a direction so that each filter is as long as the parameters' (Li et al. 2018, 4).

    A filter is what makes one output, `kernel[..., output]`. Vectors, which are biases and the
    parameters of batch norm, get no direction, as in their figures.

    Args:
      direction: structured as `params`.
      params: the centre of the plane.
    """

    def scale(d: jax.Array, p: jax.Array) -> jax.Array:
        if p.ndim < 2:
            return jnp.zeros_like(d)
        axes = tuple(range(p.ndim - 1))
        norms = [jnp.sqrt(jnp.sum(jnp.square(x), axes, keepdims=True)) for x in (p, d)]
        return d * norms[0] / jnp.maximum(norms[1], jnp.finfo(d.dtype).tiny)

    return jax.tree.map(scale, direction, params)


def loss_surface(
    loss: Loss, params: PyTree, directions: tuple[PyTree, PyTree], coordinates: jax.Array
) -> jax.Array:
    """Returns the loss at `params` + a `directions[0]` + b `directions[1]`.

    Args:
      loss: (params) -> scalar.
      params: the centre.
      directions: both structured as `params`.
      coordinates: (n,), the values of a and of b.

    Returns:
      (n, n): a along the first axis, b along the second.
    """

    def visit(ab: jax.Array) -> jax.Array:
        return loss(jax.tree.map(lambda p, x, y: p + ab[0] * x + ab[1] * y, params, *directions))

    a, b = jnp.meshgrid(coordinates, coordinates, indexing="ij")
    points = jnp.stack([a.ravel(), b.ravel()], axis=1)
    return jax.lax.map(visit, points).reshape(a.shape)


def global_norm(tree: PyTree) -> jax.Array:
    """Returns the L2 norm of all arrays of a tree together."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(x)) for x in jax.tree.leaves(tree)), jnp.zeros(())))
