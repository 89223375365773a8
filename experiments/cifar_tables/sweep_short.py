"""The CIFAR-10 table in a quarter of the epochs, three seeds: 24 runs of 75 epochs.

python -m vgg_jax.sweep --config=experiments/cifar_tables/sweep_short.py

The recipe of `sweep.py` with all numbers of epochs divided by four.
"""

import itertools
from collections.abc import Iterator

from experiments.cifar_tables.sweep import DEPTHS, NORMS, ON_ACCELERATORS

SHORT = {"epochs": 75.0, "optimizer.decay_epochs": tuple(7.5 * i for i in range(1, 10))}


def get_runs() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yields the runs, all of one seed before those of the next."""
    for seed, depth, norm in itertools.product(range(3), DEPTHS, NORMS):
        config = f"configs/vgg{depth}.py:cifar10{NORMS[norm]}"
        overrides = ON_ACCELERATORS | SHORT | {"seed": seed}
        yield f"cifar10-vgg{depth}-{norm}-seed{seed}", config, overrides
