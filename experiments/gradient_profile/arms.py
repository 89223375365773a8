"""What replaces a gradient on its way into the optimiser: other norms per layer, same directions.

A layer's ratio is the norm of its kernel's gradient over that of its kernel. All arms keep the
geometric mean of the ratios over layers, and multiply everything that belongs to a layer by one
factor. The network and its weights stay as they are.
"""

import dataclasses

import jax
import jax.numpy as jnp

from experiments.depth_limit.nets import Params, kernel_norms, scaled
from experiments.depth_limit.training import Adjust
from vgg_jax.probes.theory import batch_norm_growth


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way to train nets of one kind.

    Attributes:
      kind: of `depth_limit.nets.KINDS`.
      adjust: what replaces the gradient, or None.
      warm_up: share of the steps in which the rate rises.
    """

    kind: str
    adjust: Adjust | None = None
    warm_up: float = 0.0


def ratios(params: Params, grads: Params) -> Params:
    """Returns gradient norm over weight norm of every layer's kernel, as `kernel_norms`."""
    norms = kernel_norms(params)
    return {name: found / norms[name] for name, found in kernel_norms(grads).items()}


def flat(by_layer: Params) -> jax.Array:
    """Returns the layers' values in the order of the layers: (layers,)."""
    return jnp.concatenate([by_layer[n].ravel() for n in ("first", "second", "blocks", "head")])


def equal_at_start(params: Params, grads: Params, start: Params, first: Params) -> Params:
    """Gives every layer a rate of its own, which makes all ratios of the first step equal."""
    return scaled(grads, _levelling(ratios(start, first)))


def equal_always(params: Params, grads: Params, start: Params, first: Params) -> Params:
    """Makes the ratios of every step equal."""
    return scaled(grads, _levelling(ratios(params, grads)))


def imposed(params: Params, grads: Params, start: Params, first: Params) -> Params:
    """Makes the ratios of the first step fall by 1.211 a layer: the profile of batch norm."""
    levelling = _levelling(ratios(start, first))
    count = len(flat(levelling))
    logs = jnp.log(batch_norm_growth()) * ((count - 1) / 2 - jnp.arange(count))
    profile = jnp.exp(logs)
    shape = levelling["blocks"].shape
    steep = {
        "first": profile[0],
        "second": profile[1],
        "blocks": profile[2:-1].reshape(shape),
        "head": profile[-1],
    }
    return scaled(grads, jax.tree.map(jnp.multiply, levelling, steep))


def _levelling(found: Params) -> Params:
    """Returns the factors that bring all ratios to their geometric mean."""
    mean = jnp.exp(jnp.mean(jnp.log(flat(found))))
    return jax.tree.map(lambda ratio: mean / ratio, found)


PLAIN, NORMED, BOTH = "plain", "plain, batch norm", "residual, batch norm"
ARMS = {
    "plain, equal at the start": Arm(PLAIN, equal_at_start),
    "plain, equal always": Arm(PLAIN, equal_always),
    "batch norm, equal at the start": Arm(NORMED, equal_at_start),
    "batch norm, equal always": Arm(NORMED, equal_always),
    "batch norm, warm-up": Arm(NORMED, warm_up=0.25),
    "residual + batch norm, 1.211 a layer": Arm(BOTH, imposed),
}
