"""Scales of signals and gradients, layer by layer.

A probe sees a model only as a function: `forward(perturbations)` adds an array to each named
intermediate and returns (loss, intermediates); the gradient with respect to a perturbation of zero
is the gradient with respect to that intermediate. If the parameters are measured too, the
function is `loss_fn(params, perturbations)`. `networks.open_network` makes it of any Flax network.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vgg_jax.errors import unknown_name
from vgg_jax.probes.statistics import (
    l2_norm,
    named_leaves,
    preactivation_statistics,
    root_mean_square,
)

PyTree = Any
Arrays = dict[str, jax.Array]
Forward = Callable[[Arrays], tuple[jax.Array, Arrays]]
LossFn = Callable[[PyTree, Arrays], tuple[jax.Array, Arrays]]
Measured = dict[str, Arrays]  # {quantity: {layer: float32 scalar}}


def layer_scales(forward: Forward, names: Sequence[str]) -> tuple[Arrays, Arrays]:
    """Measures intermediates and the gradients of the loss with respect to them.

    Args:
      forward: see the module.
      names: intermediates to measure, such as the pre-activations "conv1_1", ..., "fc8".

    Returns:
      Root mean square over batch, positions and channels of each intermediate, and of its
      gradient: two {name: float32 scalar}.
    """
    gradients, values = jax.grad(forward, has_aux=True)(_zeros(forward, names))
    return (
        {name: root_mean_square(values[name]) for name in names},
        {name: root_mean_square(gradients[name]) for name in names},
    )


def layer_statistics(
    loss_fn: LossFn,
    params: PyTree,
    preactivations: Mapping[str, str],
    activation: Callable[[jax.Array], jax.Array],
    update: Callable[[PyTree], PyTree] | None = None,
) -> tuple[Measured, jax.Array]:
    """Measures every layer of a network on one batch.

    Args:
      loss_fn: (params, perturbations) -> (loss, intermediates).
      params: {layer: {"kernel": ..., ...}, ...}; a layer of a nested tree is named by its path,
        "block/conv".
      preactivations: for each layer, input to output, the intermediate that its activation is
        applied to; the last layer has no activation.
      activation: elementwise.
      update: gradients -> what the optimiser adds to the parameters, for `update_ratio`.

    Returns:
      The loss, and {quantity: {layer: float32 scalar}} with

        activation_grad_rms     root mean square of dL/dz over batch, positions and channels, z the
                                pre-activation and L the mean loss of the batch
        weight_grad_norm        L2 norm of dL/dkernel, before clipping and decay
        param_norm              L2 norm of the kernel
        grad_param_ratio        the former over the latter
        update_ratio            L2 norm of the update of the kernel over that of the kernel
        preactivation_rms, ...  see `statistics.preactivation_statistics`

    Raises:
      UserError: a layer has no kernel.
    """
    names = list(preactivations.values())
    zeros = _zeros(lambda z: loss_fn(params, z), names)
    (loss, values), (grads, grads_z) = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)(
        params, zeros
    )
    measured: Measured = {
        "activation_grad_rms": {
            layer: root_mean_square(grads_z[name]) for layer, name in preactivations.items()
        },
        "weight_grad_norm": _kernel_norms(grads, preactivations),
        "param_norm": _kernel_norms(params, preactivations),
    }
    ratios = {"grad_param_ratio": grads}
    if update is not None:
        ratios["update_ratio"] = update(grads)
    for quantity, tree in ratios.items():
        norms = _kernel_norms(tree, preactivations)
        measured[quantity] = {
            layer: norms[layer] / measured["param_norm"][layer] for layer in preactivations
        }
    last = list(preactivations)[-1]
    for layer in preactivations:
        statistics = preactivation_statistics(
            values[preactivations[layer]], activation if layer != last else None
        )
        for quantity, value in statistics.items():
            measured.setdefault(quantity, {})[layer] = value
    return measured, loss


def _zeros(forward: Forward, names: Sequence[str]) -> Arrays:
    _, shapes = jax.eval_shape(forward, {})
    return {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in names}


def _kernel_norms(tree: PyTree, layers: Mapping[str, str]) -> Arrays:
    tensors = named_leaves(tree)
    for layer in layers:
        if f"{layer}/kernel" not in tensors:
            known = [name.removesuffix("/kernel") for name in tensors if name.endswith("/kernel")]
            raise unknown_name("layer with a kernel", layer, known)
    return {layer: l2_norm(tensors[f"{layer}/kernel"]) for layer in layers}
