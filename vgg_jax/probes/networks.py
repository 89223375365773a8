"""The probes for any network of Flax: Linen modules, NNX modules, or parameters and a function.

    measured = gradient_norms(model.bind(variables), loss, batch)     Linen
    measured = gradient_norms(model, loss, batch)                     NNX
    measured = gradient_norms(params, loss, batch)                    any tree of arrays

with `loss(model, batch)`, or `loss(params, batch)`, the mean loss. The network's code needs no
change: every submodule's output is read, and its gradient taken, where the submodule is called.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from flax.core.tracers import current_trace

from vgg_jax.errors import UserError
from vgg_jax.probes.gradients import Arrays, Measured
from vgg_jax.probes.statistics import l2_norm, named_leaves, root_mean_square

PyTree = Any
Path = tuple[Any, ...]


class Opened(NamedTuple):
    """A network as a function of its parameters, which is what every probe takes.

    Attributes:
      params: the trained parameters.
      loss_fn: (params, batch, perturbations) -> (loss, outputs by name). A perturbation is added to
        the output of its name.
    """

    params: PyTree
    loss_fn: Callable[[PyTree, PyTree, Arrays], tuple[jax.Array, Arrays]]


def gradient_norms(
    model: PyTree, loss: Callable[[Any, PyTree], jax.Array], batch: PyTree
) -> Measured:
    """Measures the gradient of a loss with respect to every parameter and submodule's output.

    The network stays as it is: what the loss changes in it, such as running statistics, is
    dropped, and dropout draws the masks that the next call would draw. The function is pure, so
    it may be called under `jax.jit` (which sorts the names).

    Args:
      model: a Linen module with its variables, `module.bind(variables, rngs=..., mutable=...)`; an
        `nnx.Module`; or any tree of parameters.
      loss: (model, batch) -> mean loss over the batch, a scalar.
      batch: what the loss takes.

    Returns:
      {quantity: {name: float32 scalar}}, names such as "Block_0/Dense_1" in the order of the calls,
      input to output. Of each parameter ("Block_0/Dense_1/kernel"):

        weight_grad_norm  L2 norm of the gradient
        param_norm        L2 norm of the parameter
        grad_param_ratio  the former over the latter; infinite where the parameter is zero

      and of the output of each submodule whose `__call__` returns one array of floats:

        output_rms        root mean square over all elements
        output_grad_rms   that of the gradient of the loss with respect to it

      A second call of one submodule is "Block_0/Dense_1:2". Outputs are not measured inside of
      `remat`, `scan`, `vmap` and `jit`; parameters are.

    Raises:
      UserError: a Linen module without variables, or a loss that is no scalar.
    """
    params, loss_fn = open_network(model, loss)
    called: list[str] = []  # JAX returns dictionaries sorted

    def outputs(params: PyTree) -> Arrays:
        _, arrays = loss_fn(params, batch, {})
        called.extend(arrays)
        return arrays

    shapes = jax.eval_shape(outputs, params)
    zeros = {name: jnp.zeros(shape.shape, shape.dtype) for name, shape in shapes.items()}
    (grads, grads_z), values = jax.grad(loss_fn, (0, 2), has_aux=True)(params, batch, zeros)

    place = {name: index for index, name in enumerate(called)}
    tensors, gradients = named_leaves(params), named_leaves(grads)
    names = sorted(tensors, key=lambda name: place.get(name.rpartition("/")[0], len(called)))
    norms = {name: l2_norm(gradients[name]) for name in names}
    sizes = {name: l2_norm(tensors[name]) for name in names}
    return {
        "weight_grad_norm": norms,
        "param_norm": sizes,
        "grad_param_ratio": {name: norms[name] / sizes[name] for name in names},
        "output_rms": {name: root_mean_square(values[name]) for name in called},
        "output_grad_rms": {name: root_mean_square(grads_z[name]) for name in called},
    }


def open_network(model: PyTree, loss: Callable[[Any, PyTree], jax.Array]) -> Opened:
    """Returns a network as the function that the other probes take.

        params, loss_fn = open_network(model, loss)
        layer_statistics(lambda p, z: loss_fn(p, batch, z), params, {"Dense_0": "Dense_0"}, nn.relu)
        gradient_noise(lambda p, part: loss_fn(p, part, {})[0], params, batch, 4, ["Dense_0"])

    Args:
      model: as of `gradient_norms`.
      loss: as of `gradient_norms`.

    Raises:
      UserError: a Linen module without variables; from the function, a loss that is no scalar.
    """
    copy: Callable[[PyTree], Any]
    if isinstance(model, nnx.Module):
        params, copy = _nnx_copies(model)
    elif isinstance(model, nn.Module):
        params, copy = _linen_copies(model)
    else:
        params, copy = model, lambda params: params

    def loss_fn(params: PyTree, batch: PyTree, perturbations: Arrays) -> tuple[jax.Array, Arrays]:
        network = copy(params)
        taps = _Taps(perturbations)
        with _listening(taps, network):
            value = loss(network, batch)
        if not isinstance(value, jax.Array) or value.shape:
            raise UserError(
                f"the loss returned shapes {jax.tree.map(jnp.shape, value)}; it must be one "
                "number,\nthe mean over the batch, with nothing beside it"
            )
        return value, taps.outputs

    return Opened(params, loss_fn)


def _nnx_copies(model: nnx.Module) -> tuple[PyTree, Callable[[PyTree], nnx.Module]]:
    """Returns the parameters, and the function that puts others in a copy of the module."""
    graph, params, *rest = nnx.split(model, nnx.Param, ...)
    # Of variables of its own: a call may change them, under a transformation too.
    return params, lambda params: nnx.merge(graph, params, *jax.tree.map(lambda leaf: leaf, rest))


def _linen_copies(model: nn.Module) -> tuple[PyTree, Callable[[PyTree], nn.Module]]:
    """Returns the parameters, and the function that binds the module to others."""
    scope = model.scope
    if scope is None:
        raise UserError(
            f"{type(model).__name__} has no variables: give model.bind(variables), with rngs= and "
            "mutable= as of model.apply"
        )
    module, variables = model.unbind()
    rngs = {name: key.as_jax_rng() for name, key in scope.rngs.items()}
    mutable, rest = scope.mutable, {k: v for k, v in variables.items() if k != "params"}
    return variables["params"], lambda params: module.bind(
        rest | {"params": params}, rngs=rngs, mutable=mutable
    )


class _Taps:
    """Reads what submodules return, and adds the perturbation of that name if there is one."""

    def __init__(self, perturbations: Arrays) -> None:
        self.outputs: Arrays = {}
        self._perturbations = perturbations
        self._trace = current_trace()

    def __call__(self, path: Path, output: Any) -> Any:
        """Takes and returns the output of the submodule at a path."""
        is_floats = isinstance(output, jax.Array) and jnp.issubdtype(output.dtype, jnp.floating)
        # An array of an inner transformation must not leave it.
        if not path or not is_floats or current_trace() != self._trace:
            return output
        first = "/".join(map(str, path))
        calls = sum(name.partition(":")[0] == first for name in self.outputs)
        name = f"{first}:{calls + 1}" if calls else first
        if name in self._perturbations:
            output = output + self._perturbations[name]
        self.outputs[name] = output
        return output


@contextmanager
def _listening(taps: _Taps, network: PyTree) -> Iterator[None]:
    """While entered, the submodules of a network, and of any Linen module, tell what they return.

    Args:
      taps: whom they tell.
      network: if it is an `nnx.Module`, a copy: the classes of its submodules change.
    """

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        is_call = context.method_name == "__call__"
        return taps(context.module.path, output) if is_call else output

    paths: dict[int, Path] = {}
    if isinstance(network, nnx.Module):
        for path, module in list(nnx.iter_modules(network)):
            if path and callable(module):
                paths[id(module)] = path
                module.__class__ = _told(type(module))
    token = _listener.set(lambda module, output: taps(paths.get(id(module), ()), output))
    try:
        with nn.intercept_methods(intercept):
            yield
    finally:
        _listener.reset(token)


_listener: ContextVar[Callable[[nnx.Module, Any], Any]] = ContextVar("listener")


@functools.cache
def _told(kind: type[nnx.Module]) -> type[nnx.Module]:
    """Returns a subclass of an NNX module's class that tells the listener what a call returns."""

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        return _listener.get()(self, kind.__call__(self, *args, **kwargs))

    return type(kind.__name__, (kind,), {"__call__": call})
