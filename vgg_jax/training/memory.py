"""What a training step must hold, from shapes alone, and whether there is room for it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.training.state import TrainState

# Where the kernel tells how much memory a container may use: version 2 and 1 of its groups.
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_memory(config: ConfigDict, model: VGG, state: TrainState, devices: int) -> None:
    """Refuses a run that cannot fit, before anything is read or compiled.

    The estimate is a lower bound: a device's part of the state, gradients, one batch, and the
    outputs of the convolutions of one micro-batch; with frozen parameters neither gradients nor
    outputs, of which some are not kept. What it lets through may still run out of memory.

    Args:
      config: of the run.
      model: its network.
      state: shapes and shardings of its state (`Parallel.abstract`).
      devices: number of them over all processes.

    Raises:
      UserError: with the estimate, and what to lower.
    """
    if not config.check_memory:
        return
    images = math.ceil(config.data.batch_size / devices)
    at_once = math.ceil(images / config.optimizer.accumulate)
    pixels = 3 * config.data.image_size**2
    seen = max(images, math.ceil(config.eval.batch_size / devices))
    itemsize = jnp.dtype(model.dtype).itemsize
    parts = {
        "parameters and optimiser": _bytes(state),
        f"batch of {seen:,}": seen * pixels * (1 + itemsize),  # uint8, and augmented
    }
    if not config.optimizer.frozen:
        kept = activation_bytes(model, config.data.image_size)
        parts |= {"gradients": _bytes(state.params), f"activations of {at_once:,}": at_once * kept}
    needed, there = sum(parts.values()), device_bytes(jax.local_devices())
    if there is None or needed <= there:
        return
    listed = ", ".join(f"{name} {_gigabytes(size)}" for name, size in parts.items())
    raise UserError(
        f"a step needs at least {_gigabytes(needed)} on a device of {_gigabytes(there)} "
        f"({listed}).\nLower data.batch_size, raise optimizer.accumulate, or set model.remat=true "
        "or compute_dtype=bfloat16; --config.check_memory=false tries it all the same"
    )


def activation_bytes(model: VGG, image_size: int) -> int:
    """Returns the bytes of what the backward pass keeps of one image, at least.

    One map of every convolution, after the pooling for the last one of a stage; with `remat`,
    which computes them again a stage at a time, those of the largest stage and every pool's.
    """
    side, pools = image_size, 0
    stages = []
    for stage in model.conv_stages:
        stages.append(side**2 * sum(conv.channels for conv in stage[:-1]))
        side //= 2
        pools += side**2 * stage[-1].channels
    values = pools + (max(stages) if model.remat else sum(stages))
    return values * jnp.dtype(model.dtype).itemsize


def device_bytes(devices: Sequence[jax.Device]) -> int | None:
    """Returns the memory of a device; of processors, which share it, each one's part.

    None if nothing tells.
    """
    if devices[0].platform != "cpu":
        statistics = devices[0].memory_stats() or {}
        return statistics.get("bytes_limit")
    limits = [_whole(path) for path in _GROUP_LIMITS] + [_physical_bytes()]
    known = [limit for limit in limits if limit is not None]
    return min(known) // len(devices) if known else None


def _physical_bytes() -> int | None:
    path = Path("/proc/meminfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return None


def _whole(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _bytes(tree: Any) -> int:
    """Returns what one device holds of arrays of known shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
