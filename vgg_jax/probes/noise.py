"""How much of a gradient is noise: its variance over examples, and the simple noise scale."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vgg_jax.errors import unknown_name
from vgg_jax.probes.statistics import named_leaves

PyTree = Any


def gradient_noise(
    loss_fn: Callable[[PyTree, PyTree], jax.Array],
    params: PyTree,
    batch: PyTree,
    parts: int,
    layers: Sequence[str],
) -> dict[str, dict[str, jax.Array]]:
    """Measures the noise of the gradient from the micro-batches of one batch.

    McCandlish et al. (2018), arXiv 1812.06162, appendix A.1: with G the true gradient and S the
    trace of the covariance of one example's, E|g|^2 = |G|^2 + S / b for the mean over b examples;
    two values of b give both. With batch norm an example's gradient depends on its micro-batch, so
    the numbers are those of micro-batches of that size.

    Args:
      loss_fn: (params, micro-batch) -> mean loss.
      params: {layer: ..., ...}; a layer of a nested tree is named by its path, "block/conv".
      batch: arrays (N, ...), independent examples along the first axis.
      parts: number of micro-batches, at least 2, a divisor of N.
      layers: those to report.

    Returns:
      {quantity: {layer: float32 scalar}}, "all" among the layers, of all the parameters together:
      gradient_variance, the estimate of S; gradient_signal, of |G|^2, which may come out negative
      where noise dominates; noise_scale, S / |G|^2 in examples, NaN where |G|^2 is not positive.

    Raises:
      UserError: a layer without parameters.
    """
    micro = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    size = jax.tree.leaves(micro)[0].shape[1]

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, dict[str, jax.Array]]:
        grads = jax.grad(loss_fn)(params, part)
        return jax.tree.map(jnp.add, total, grads), _squares(grads, layers)

    total, small = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), micro)
    large = _squares(jax.tree.map(lambda g: g / parts, total), layers)
    variance, signal, scale = {}, {}, {}
    for layer in (*layers, "all"):
        mean_small = jnp.mean(small[layer])
        whole = size * parts
        variance[layer] = (mean_small - large[layer]) / (1 / size - 1 / whole)
        signal[layer] = (whole * large[layer] - size * mean_small) / (whole - size)
        ratio = variance[layer] / signal[layer]
        scale[layer] = jnp.where(signal[layer] > 0, ratio, jnp.nan)
    return {"gradient_variance": variance, "gradient_signal": signal, "noise_scale": scale}


def _squares(grads: PyTree, layers: Sequence[str]) -> dict[str, jax.Array]:
    """Squared L2 norm of each layer's gradient, and of all together."""
    tensors = {name: jnp.sum(jnp.square(g)) for name, g in named_leaves(grads).items()}
    squares = {}
    for layer in layers:
        inside = [v for name, v in tensors.items() if f"{name}/".startswith(f"{layer}/")]
        if not inside:
            raise unknown_name("layer", layer, {name.rpartition("/")[0] for name in tensors})
        squares[layer] = sum(inside, jnp.zeros(()))
    return squares | {"all": sum(tensors.values(), jnp.zeros(()))}
