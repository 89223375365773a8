"""The CIFAR-10 table at an eighth of the width and two epochs, two seeds: minutes on a CPU.

python -m vgg_jax.sweep --config=experiments/cifar_tables/sweep_quick.py

It shows that everything works and which nets start to learn first, not how accurate they get.
Dropout is off, and the learning rate warms up and decays within the two epochs.
"""

import itertools
from collections.abc import Iterator

from experiments.cifar_tables.sweep import DEPTHS, NORMS

SHORT = {
    "model.width": 0.125,
    "model.dropout": 0.0,
    "epochs": 2.0,
    "optimizer.learning_rate": 0.02,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_epochs": 0.1,
    "eval.every_steps": 195,
    "eval.batch_size": 500,
}


def get_runs() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yields the runs, all of one seed before those of the next."""
    for seed, depth, norm in itertools.product(range(2), DEPTHS, NORMS):
        config = f"configs/vgg{depth}.py:cifar10{NORMS[norm]}"
        yield f"cifar10-vgg{depth}-{norm}-seed{seed}", config, SHORT | {"seed": seed}
