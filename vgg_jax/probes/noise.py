"""How much of a gradient is noise: its variance over examples, and the simple noise scale."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any


def gradient_noise(
    loss_fn: Callable[[PyTree, PyTree], jax.Array],
    params: Mapping[str, Any],
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
      params: {layer: ..., ...}.
      batch: arrays (N, ...), independent examples along the first axis.
      parts: number of micro-batches, at least 2, a divisor of N.
      layers: those to report.

    Returns:
      {quantity: {layer: float32 scalar}}, "all" among the layers, of all the parameters together:
      gradient_variance, the estimate of S; gradient_signal, of |G|^2, which may come out negative
      where noise dominates; noise_scale, S / |G|^2 in examples, NaN where |G|^2 is not positive.
    """
    micro = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    size = jax.tree.leaves(micro)[0].shape[1]

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, dict[str, jax.Array]]:
        grads = jax.grad(loss_fn)(params, part)
        return jax.tree.map(jnp.add, total, grads), _squares(grads)

    total, small = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, dict(params)), micro)
    large = _squares(jax.tree.map(lambda g: g / parts, total))
    variance, signal, scale = {}, {}, {}
    for layer in (*layers, "all"):
        mean_small = jnp.mean(small[layer])
        whole = size * parts
        variance[layer] = (mean_small - large[layer]) / (1 / size - 1 / whole)
        signal[layer] = (whole * large[layer] - size * mean_small) / (whole - size)
        ratio = variance[layer] / signal[layer]
        scale[layer] = jnp.where(signal[layer] > 0, ratio, jnp.nan)
    return {"gradient_variance": variance, "gradient_signal": signal, "noise_scale": scale}


def _squares(grads: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Squared L2 norm of each layer's gradient, and of all together."""
    squares = {
        layer: sum((jnp.sum(jnp.square(g)) for g in jax.tree.leaves(tree)), jnp.zeros(()))
        for layer, tree in grads.items()
    }
    return squares | {"all": sum(squares.values(), jnp.zeros(()))}
