"""Do explanations depend on what a network learnt? Layers are drawn anew from the top.

Adebayo, Gilmer, Muelly, Goodfellow, Hardt & Kim (2018), arXiv 1810.03292, section 3: cascading
randomisation. A method whose map stays the same while the network loses what it learnt does not
explain the network.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.models import VGG


def fresh_variables(model: VGG, seed: int) -> dict[str, Any]:
    """Returns the variables of an untrained network, drawn by its own initialiser."""
    side = model.smallest_image
    initialize = jax.jit(model.init)
    return {"batch_stats": {}} | initialize(jax.random.key(seed), jnp.zeros((1, side, side, 3)))


def randomized_from_top(
    variables: Mapping[str, Any], fresh: Mapping[str, Any], model: VGG, layer: str
) -> dict[str, Any]:
    """Returns trained variables with those of a layer and of all above it from an untrained net.

    Args:
      variables: {"params", "batch_stats"} of the trained network; they are not changed.
      fresh: of the same structure, from `fresh_variables`.
      model: the network.
      layer: of `model.layer_names`, the lowest that loses what it learnt; with a convolution, its
        batch norm does too.
    """
    lost = model.layer_names[model.layer_names.index(layer) :]
    names = {*lost, *(name.replace("conv", "bn") for name in lost)}
    return {
        collection: {
            name: (fresh if name in names else variables)[collection][name] for name in leaves
        }
        for collection, leaves in variables.items()
    }


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation of each row of two arrays (n, values): (n,).

    Ties have their mean rank. A row without variation correlates with none: 0.
    """
    from scipy.stats import rankdata  # a second to import

    units = []
    for values in (first, second):
        ranks = rankdata(values, axis=1)
        centred = ranks - ranks.mean(1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        units.append(centred / np.where(length > 0, length, 1))
    return np.sum(units[0] * units[1], 1)
