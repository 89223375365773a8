"""Curvature of a loss: Hessian-vector products, the largest eigenvalue and the trace.

A network is seen as `loss(params) -> scalar`, whatever made it; no dense matrix is formed. All
functions can be compiled, with the loss and the counts fixed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

PyTree = Any
Loss = Callable[[PyTree], jax.Array]


class Eigenpair(NamedTuple):
    """An eigenvalue of the Hessian.

    Attributes:
      value: scalar.
      vector: of unit length, structured as the parameters.
      residual: |H v - value v|, scalar. A true eigenvalue lies within it.
    """

    value: jax.Array
    vector: PyTree
    residual: jax.Array


def hessian_vector_product(loss: Loss, params: PyTree, vector: PyTree) -> PyTree:
    """Returns H v, forward over reverse (Pearlmutter 1994), at about twice a gradient's cost.

    Args:
      loss: (params) -> scalar.
      params: where the Hessian is taken.
      vector: structured as `params`.
    """
    return jax.jvp(jax.grad(loss), (params,), (vector,))[1]


def largest_eigenvalue(loss: Loss, params: PyTree, start: PyTree, iterations: int) -> Eigenpair:
    """Returns the largest (not the largest absolute) eigenvalue of the Hessian, by Lanczos.

    With full reorthogonalisation, so that no eigenvalue shows up twice by rounding, and a new
    random direction where the start reaches no further. Memory: `iterations` copies of the
    parameters.

    Args:
      loss: (params) -> scalar.
      params: where the Hessian is taken.
      start: first direction, structured as `params`, not zero: random, or the eigenvector of a
        point nearby, from which fewer iterations do.
      iterations: Hessian-vector products, fewer than there are parameters.
    """
    flat, unravel = ravel_pytree(params)

    def product(vector: jax.Array) -> jax.Array:
        return ravel_pytree(hessian_vector_product(loss, params, unravel(vector)))[0]

    def orthogonal(vector: jax.Array, basis: jax.Array) -> jax.Array:
        for _ in range(2):  # one pass leaves rounding errors that grow
            vector = vector - basis.T @ (basis @ vector)
        return vector

    def random(index: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(0), index)
        return jax.random.normal(key, flat.shape, flat.dtype)

    def iterate(index: jax.Array, carry: Any) -> Any:
        basis, diagonal, off_diagonal, vector = carry
        basis = basis.at[index].set(vector)
        image = product(vector)
        diagonal = diagonal.at[index].set(image @ vector)
        rest = orthogonal(image, basis)
        length = jnp.linalg.norm(rest)
        # Rounding errors alone: the basis holds all that the start can reach, so start anew.
        ended = length <= 100 * jnp.finfo(flat.dtype).eps * jnp.linalg.norm(image)
        rest = jax.lax.cond(ended, lambda: orthogonal(random(index), basis), lambda: rest)
        off_diagonal = off_diagonal.at[index].set(jnp.where(ended, 0, length))
        return basis, diagonal, off_diagonal, rest / jnp.linalg.norm(rest)

    first = ravel_pytree(start)[0].astype(flat.dtype)
    zeros = jnp.zeros(iterations, flat.dtype)
    basis, diagonal, off_diagonal, _ = jax.lax.fori_loop(
        0,
        iterations,
        iterate,
        (
            jnp.zeros((iterations, flat.size), flat.dtype),
            *(zeros, zeros),
            first / jnp.linalg.norm(first),
        ),
    )
    between = off_diagonal[:-1]
    small = jnp.diag(diagonal) + jnp.diag(between, 1) + jnp.diag(between, -1)
    values, vectors = jnp.linalg.eigh(small)
    top = vectors[:, -1]
    return Eigenpair(values[-1], unravel(basis.T @ top), jnp.abs(off_diagonal[-1] * top[-1]))


def hessian_trace(
    loss: Loss, params: PyTree, key: jax.Array, samples: int
) -> tuple[jax.Array, jax.Array]:
    """Estimates the trace of the Hessian from random signs (Hutchinson 1990).

    Args:
      loss: (params) -> scalar.
      params: where the Hessian is taken.
      key: of the signs.
      samples: Hessian-vector products, at least 2.

    Returns:
      The estimate and its standard error, two scalars.
    """
    flat, unravel = ravel_pytree(params)

    def sample(key: jax.Array) -> jax.Array:
        signs = jax.random.rademacher(key, flat.shape, flat.dtype)
        product = hessian_vector_product(loss, params, unravel(signs))
        return signs @ ravel_pytree(product)[0]

    values = jax.lax.map(sample, jax.random.split(key, samples))
    return values.mean(), values.std(ddof=1) / samples**0.5
