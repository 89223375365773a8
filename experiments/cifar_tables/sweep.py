"""Depth x batch norm on CIFAR-10 and CIFAR-100, three seeds: 48 runs of 300 epochs.

python -m vgg_jax.sweep --config=experiments/cifar_tables/sweep.py

For accelerators: the data set is on the device, an epoch is one dispatch, and it computes in
bfloat16. The recipe is that of `cifar10` in configs/base.py, as in the published table.
"""

import itertools
from collections.abc import Iterator

DEPTHS = (11, 13, 16, 19)
NORMS = {"plain": "", "bn": ",bn"}
STEPS_PER_EPOCH = 391
ON_ACCELERATORS = {
    "compute_dtype": "bfloat16",
    "parallel.steps_per_dispatch": STEPS_PER_EPOCH,
    "eval.batch_size": 1000,
    "checkpoint.every_steps": 10 * STEPS_PER_EPOCH,
    "log.every_steps": STEPS_PER_EPOCH,
}


def get_runs() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yields the runs, all of one seed before those of the next."""
    for seed, data, depth, norm in itertools.product(
        range(3), ("cifar10", "cifar100"), DEPTHS, NORMS
    ):
        config = f"configs/vgg{depth}.py:{data}{NORMS[norm]}"
        yield f"{data}-vgg{depth}-{norm}-seed{seed}", config, ON_ACCELERATORS | {"seed": seed}
