"""Bilinear operations on two arrays whose gradients are written by hand.

The gradient that JAX derives of a linear map goes through its operations backwards, in an order
that may run slowly. The gradients of a bilinear operation are bilinear too: if these are written
out as well, derivatives of every order, forwards and backwards, are operations that run fast.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Operation = Callable[..., jax.Array]


def bilinear(
    compute: Operation,
    shape: Callable[..., tuple[int, ...]],
    gradients: tuple[Operation, Operation],
    static: Sequence[str] = (),
) -> Operation:
    """Makes an operation of a function that is linear in each of two arrays of one dtype.

    The function is traced once for each shape. Under `vmap` the operation is the function itself,
    with the gradients that JAX derives.

    Args:
      compute: the function of the two arrays and of `static` keywords.
      shape: the result's, of the shapes of the two arrays and of the keywords.
      gradients: with respect to the first array and to the second. Each is called with the
        gradient of the result, the two arrays and the keywords. The array with respect to which it
        is taken is a placeholder then: linear functions have no need of it.
      static: names of the keywords.

    Returns:
      The operation, called as the function is.
    """
    operation = Primitive(compute.__name__)
    traced_once = jax.jit(compute, static_argnames=static)

    def abstract(first: ShapedArray, second: ShapedArray, **keywords: Any) -> ShapedArray:
        return ShapedArray(shape(first.shape, second.shape, **keywords), first.dtype)

    def batched(operands: Any, axes: Any, **keywords: Any) -> tuple[jax.Array, int]:
        return jax.vmap(lambda *pair: compute(*pair, **keywords), axes)(*operands), 0

    operation.def_impl(traced_once)
    operation.def_abstract_eval(abstract)
    ad.defbilinear(operation, *gradients)
    batching.primitive_batchers[operation] = batched
    mlir.register_lowering(operation, mlir.lower_fun(traced_once, multiple_results=False))
    return operation.bind
