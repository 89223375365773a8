"""Layer-sequential unit-variance initialisation (LSUV), which looks at a batch of images."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from vgg_jax.errors import UserError
from vgg_jax.models.vgg import VGG


def lsuv(
    model: VGG,
    variables: Mapping[str, Any],
    images: jax.Array,
    *,
    tolerance: float = 0.1,
    max_iterations: int = 10,
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Rescales the weights so that every layer's output has variance 1 on a batch.

    Layer-sequential unit-variance initialisation, Mishkin & Matas (2015), arXiv 1511.06422,
    algorithm 1: from input to output, a layer's kernel is divided by the standard deviation of
    its output (bias included, before normalisation and activation) until the variance is near 1.
    It takes the orthonormal start of kernel_init "lsuv". Dropout is off; batch normalisation uses
    the statistics of the batch.

    Args:
      model: the network.
      variables: its variables, as `model.init` gives them.
      images: a batch of training images (N, H, W, 3), preprocessed.
      tolerance: how far from 1 a variance may stay.
      max_iterations: rescalings of one layer at most.

    Returns:
      The variables with rescaled kernels; and for each layer the variances measured, first to
      last: one more than the rescalings it took. A layer with zero biases takes one at most.

    Raises:
      UserError: the output of a layer is constant or not finite.
    """
    plain = model.clone(dropout=0.0, remat=False)
    factors, variances = jax.device_get(
        _unit_variances(plain, tolerance, max_iterations, variables, images)
    )
    measured = {name: values[~np.isnan(values)].tolist() for name, values in variances.items()}
    for name in model.layer_names:
        if not measured[name] or not 0 < measured[name][-1] < float("inf"):
            variance = measured[name][-1] if measured[name] else float("nan")
            raise UserError(
                f"LSUV: the output of {name} has variance {variance} on this batch.\n"
                "Give it varied, finite images, or use another kernel_init"
            )
    params = {
        name: leaves | {"kernel": leaves["kernel"] * factors[name]} if name in factors else leaves
        for name, leaves in variables["params"].items()
    }
    return {**variables, "params": params}, {name: measured[name] for name in model.layer_names}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _unit_variances(
    model: VGG,
    tolerance: float,
    max_iterations: int,
    variables: Mapping[str, Any],
    images: jax.Array,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Returns the factor of each kernel, and the variances measured, NaN past the last of them.

    One forward pass does: a layer's output is its product with the kernel, which scales as the
    kernel does, and a bias; the next layer sees the rescaled output.
    """
    layers = model.layer_names
    factors: dict[str, jax.Array] = {}
    measured: dict[str, jax.Array] = {}

    def rescale(
        layer: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        output = layer(*args, **kwargs)
        name = context.module.name
        if name not in layers or context.method_name != "__call__":
            return output
        bias = variables["params"][name]["bias"].astype(jnp.float32)
        product = output.astype(jnp.float32) - bias

        def goes_on(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            count, _, variances = state
            variance = variances[count]
            usable = (variance > 0) & (variance < jnp.inf)
            return usable & (jnp.abs(variance - 1) > tolerance) & (count < max_iterations)

        def iteration(state: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
            count, factor, variances = state
            factor = factor / jnp.sqrt(variances[count])
            variance = (factor * product + bias).var()
            return count + 1, factor, variances.at[count + 1].set(variance)

        first = (product + bias).var()
        variances = jnp.full(max_iterations + 1, jnp.nan).at[0].set(first)
        start = (jnp.int32(0), jnp.float32(1), variances)
        _, factors[name], measured[name] = jax.lax.while_loop(goes_on, iteration, start)
        return (factors[name] * product + bias).astype(output.dtype)

    with nn.intercept_methods(rescale):
        model.apply(variables, images, train=True, mutable=["batch_stats"])
    return factors, measured
