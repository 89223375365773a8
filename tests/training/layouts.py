"""Trains one tiny net in many layouts of eight devices and writes what comes out.

    JAX_NUM_CPU_DEVICES=8 python -m tests.training.layouts FILE.npz

Run by `test_parallel.py` in a process of its own, because a process has one number of devices.
"""

import functools
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from configs.base import base
from vgg_jax.models import VGG
from vgg_jax.training.checkpoints import Checkpoints
from vgg_jax.training.optimizers import make_optimizer, make_schedule
from vgg_jax.training.parallel import make_parallel
from vgg_jax.training.state import TrainState, init_variables, new_state
from vgg_jax.training.steps import TrainLoss, make_train_step

BATCH, SIZE, CLASSES, STEPS = 32, 4, 4, 5

# Within a family every layout has to end with the same parameters, those of the first.
FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
    "global norm": {
        "one device": {},
        "jit 2": {"devices": 2},
        "jit 4": {"devices": 4},
        "jit 8": {"devices": 8},
        "pmap 2": {"devices": 2, "mode": "pmap"},
        "pmap 4": {"devices": 4, "mode": "pmap"},
        "pmap 8": {"devices": 8, "mode": "pmap"},
        "model 2": {"devices": 4, "model": 2},
        "model 4": {"devices": 8, "model": 4},
        "model 8": {"devices": 8, "model": 8},
        "shard_optimizer on 4, 2, 8": {"devices": (4, 2, 8), "shard_optimizer": True},
        "shard_optimizer, model 2": {"devices": 8, "model": 2, "shard_optimizer": True},
    },
    "norm in groups": {
        "one device": {"group": 4},
        "jit 8": {"group": 4, "devices": 8},
        "pmap 8": {"group": 4, "devices": 8, "mode": "pmap"},
        "accumulate 2": {"group": 4, "accumulate": 2},
        "accumulate 4, jit 2": {"group": 4, "accumulate": 4, "devices": 2},
        "accumulate 2, pmap 4": {"group": 4, "accumulate": 2, "devices": 4, "mode": "pmap"},
    },
    "dropout": {
        "one device": {"dropout": 0.5},
        "jit 8": {"dropout": 0.5, "devices": 8},
        "pmap 4": {"dropout": 0.5, "devices": 4, "mode": "pmap"},
        "model 4": {"dropout": 0.5, "devices": 8, "model": 4},
    },
}
NET = VGG(
    stages=("3-8",),
    num_classes=CLASSES,
    norm="batch",
    head="cifar",
    head_features=(8,),
    head_window=SIZE // 2,
)


@functools.cache  # drawn once: to compile the drawing for every layout takes longer than training
def initial_variables() -> dict[str, Any]:
    """Returns the variables that every layout starts from."""
    return jax.device_get(jax.jit(lambda: init_variables(NET, 0, SIZE))())


def train(
    mode: str = "jit",
    devices: int | tuple[int, ...] = 1,
    model: int = 1,
    shard_optimizer: bool = False,
    accumulate: int = 1,
    group: int | None = None,
    dropout: float = 0.0,
) -> dict[str, np.ndarray]:
    """Returns parameters and statistics after `STEPS` steps, and the last step's metrics.

    With several numbers of devices each takes its turn and goes on from a checkpoint.
    """
    config = base().optimizer
    config.schedule = "constant"
    optimizer = make_optimizer(config, make_schedule(config, 10.0, 100))
    net = NET.clone(norm_group=group, dropout=dropout)
    variables = initial_variables()

    def init() -> TrainState:
        return new_state(variables, optimizer, with_ema=False)

    turns = devices if isinstance(devices, tuple) else (devices,)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        for turn, count in enumerate(turns, 1):
            parallel = make_parallel(
                mode, model, shard_optimizer=shard_optimizer, devices=jax.devices()[:count]
            )
            loss = TrainLoss(
                parallel.adapted(net),
                seed=1,
                accumulate=accumulate,
                group=group or 1,
            )
            train_step = parallel.compile_train(
                make_train_step(
                    loss,
                    optimizer,
                    lambda keys, images: images / 64.0,
                    axis_name=parallel.axis_name,
                )
            )
            restored = checkpoints.restore(parallel.abstract(init))
            state = restored[0] if restored else parallel.init(init)
            for step in range(STEPS * (turn - 1) // len(turns), STEPS * turn // len(turns)):
                state, metrics = train_step(state, parallel.put(batch(step)))
            if turn < len(turns):
                checkpoints.save(state, {})
                checkpoints.wait()
        checkpoints.close()
    result = {"params": state.params, "batch_stats": state.batch_stats, "metrics": metrics}
    named = jax.tree_util.tree_leaves_with_path(jax.device_get(result))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x for path, x in named}


def batch(step: int) -> dict[str, np.ndarray]:
    """Returns the images and labels of a step."""
    rng = np.random.default_rng(step)
    return {
        "image": rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype=np.uint8),
        "label": rng.integers(0, CLASSES, BATCH).astype(np.int32),
        "mask": np.ones(BATCH, bool),
    }


if __name__ == "__main__":
    arrays = {
        f"{family}|{layout}|{name}": array
        for family, layouts in FAMILIES.items()
        for layout, options in layouts.items()
        for name, array in train(**options).items()
    }
    np.savez(sys.argv[1], **arrays)
