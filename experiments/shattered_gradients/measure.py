"""Measures cells: correlations of the gradients of pairs, and autocorrelations along lines."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shattered_gradients.cells import DENSE, LINE, Cell
from experiments.shattered_gradients.nets import frozen, gates, input_shape, network
from vgg_jax.probes.coherence import (
    autocorrelation,
    equicorrelated,
    input_gradients,
    line_derivatives,
    pair_correlation,
)
from vgg_jax.rng import stream_key
from vgg_jax.xla import NETWORK, on_cpu

# Inputs whose pairs are measured, and outputs whose gradients are.
DENSE_INPUTS, ROWS = 128, 4
VGG_INPUTS = 16  # and all of its logits
REFERENCE = {True: 1024, False: 256}  # inputs of the frozen statistics: of a dense net, of VGG
POSITIONS = np.linspace(-2, 2, 256)  # along the line start + t direction
# The mean square of the inputs over the line is that of the reference.
LINE_SCALE = float(np.mean(1 + POSITIONS**2) ** -0.5)
LINE_ROWS = 64
LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)


def measure_cell(cell: Cell, depths: Sequence[int], seeds: int) -> list[dict[str, Any]]:
    """Returns a row for every seed and depth, and along a line for every lag."""
    dense = cell.net == DENSE
    depths = tuple(depths) if dense else (gates(cell),)
    along = cell.inputs == LINE
    measure = _compiled(dataclasses.replace(cell, inputs=""), depths, along)
    lags = LAGS if along else (0,)
    rows = []
    for seed in range(seeds):
        key = stream_key(seed, "shattered_gradients")
        if along:
            derivatives = jax.device_get(measure(key, 0.0))
            values = np.array([autocorrelation(found, LAGS).mean(0) for found in derivatives])
        else:
            values = np.array(jax.device_get(measure(key, float(cell.inputs))))[:, None]
        rows += [
            {"depth": depth, "lag": lag, "seed": seed, "value": float(value)}
            for depth, found in zip(depths, values, strict=True)
            for lag, value in zip(lags, found, strict=True)
        ]
    return rows


@functools.lru_cache(maxsize=1)
def _compiled(
    family: Cell, depths: tuple[int, ...], along: bool
) -> Callable[[jax.Array, float], list[jax.Array]]:
    """Returns the jitted (key, correlation) -> what is measured behind each depth.

    Args:
      family: a cell, its inputs left out: all correlations share a program.
      depths: see `measure_cell`.
      along: derivatives along a line (rows, positions), instead of the correlation of pairs.
    """
    dense = family.net == DENSE
    shape = input_shape(family)

    def measure(key: jax.Array, correlation: jax.Array) -> list[jax.Array]:
        key_weights, key_reference, key_inputs = jax.random.split(key, 3)
        model = network(family, max(depths))
        reference = jax.random.normal(key_reference, (REFERENCE[dense], *shape))
        variables = frozen(model, key_weights, reference)
        if along:
            start, direction = LINE_SCALE * equicorrelated(key_inputs, 2, shape, 0.0)
        else:
            count = DENSE_INPUTS if dense else VGG_INPUTS
            inputs = equicorrelated(key_inputs, count, shape, correlation)
        found = []
        for depth in depths:
            outputs = partial(_outputs, family, variables, depth, LINE_ROWS if along else ROWS)
            if along:
                found.append(line_derivatives(outputs, start, direction, jnp.asarray(POSITIONS)))
            else:
                found.append(pair_correlation(input_gradients(outputs, inputs)))
        return found

    return jax.jit(measure, compiler_options=on_cpu(NETWORK))


def _outputs(
    family: Cell, variables: Mapping[str, Any], depth: int, rows: int, x: jax.Array
) -> jax.Array:
    """Returns the elements of z behind `depth` gates that are differentiated; of VGG the logits."""
    found = network(family, depth).apply(variables, x)
    return found[-1][:, :rows] if family.net == DENSE else found[0]
