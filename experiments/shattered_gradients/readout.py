"""What a gradient is of, with batch norm: rows of each input's own Jacobian, or a batch's sum."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.shattered_gradients.nets import INPUT, Stack, frozen
from vgg_jax.probes.coherence import (
    equicorrelated,
    input_gradients,
    own_gradients,
    pair_correlation,
)
from vgg_jax.probes.statistics import root_mean_square
from vgg_jax.rng import stream_key

WIDTH, DEPTH, BATCH, ROWS = 128, 4, 64, 4
FROZEN = "own rows, frozen statistics"
OWN = "own rows, statistics of the batch"
SUM = "sum over the batch"
SUM_RELU = "sum over the batch, ReLU behind the batch norm"


def measure_readout(seeds: int) -> list[dict[str, Any]]:
    """Returns for each seed and gradient its root mean square and the correlation of two inputs'.

    A dense net with batch norm and another batch norm at its end, on independent inputs; the
    statistics are always those of the batch. The root mean square is relative to `FROZEN`.
    """
    rows = []
    for seed in range(seeds):
        found = jax.device_get(_measure(stream_key(seed, "shattered_gradients")))
        unit = found[FROZEN][0]
        rows += [
            {"gradient": name, "seed": seed, "rms": float(size / unit), "correlation": float(value)}
            for name, (size, value) in found.items()
        ]
    return rows


@jax.jit
def _measure(key: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
    key_weights, key_inputs = jax.random.split(key)
    model = Stack(WIDTH, DEPTH, norm="batch")
    inputs = equicorrelated(key_inputs, BATCH, (INPUT,), 0.0)
    variables = frozen(model, key_weights, inputs)

    def live(x: jax.Array) -> jax.Array:
        z = model.apply(variables, x, train=True, mutable=["batch_stats"])[0][-1]
        return _normalized(z, z)[:, :ROWS]

    behind = model.apply(variables, inputs)[-1]

    def still(x: jax.Array) -> jax.Array:
        return _normalized(model.apply(variables, x)[-1], behind)[:, :ROWS]

    gradients = {
        FROZEN: input_gradients(still, inputs),
        OWN: own_gradients(live, inputs),
        SUM: input_gradients(live, inputs),
        SUM_RELU: input_gradients(lambda x: jax.nn.relu(live(x)), inputs),
    }
    return {name: (root_mean_square(g), pair_correlation(g)) for name, g in gradients.items()}


def _normalized(z: jax.Array, reference: jax.Array) -> jax.Array:
    return (z - jnp.mean(reference, 0)) / jnp.std(reference, 0)
