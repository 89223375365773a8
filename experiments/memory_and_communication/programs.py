"""The training step of VGG-16 at 224 pixels, compiled for machines that need not be present.

XLA compiles for a TPU ahead of time on any computer that has libtpu installed. Arguments are
abstract: no image and no parameter is ever allocated.
"""

import math
import re
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from configs.base import vgg
from vgg_jax.data.augment import make_train_augment
from vgg_jax.models import build_model
from vgg_jax.ops.platforms import every_platform
from vgg_jax.training.optimizers import make_optimizer, make_schedule
from vgg_jax.training.parallel import make_parallel
from vgg_jax.training.state import init_variables, new_state
from vgg_jax.training.steps import TrainLoss, make_train_step

Compiled = jax.stages.Compiled


@dataclass(frozen=True)
class Program:
    """One way to run the step; the batch is the global one."""

    devices: int = 1
    batch_size: int = 256
    compute_dtype: str = "float32"
    # The default of TPUs. More exact products consist of several of these and compile slowly.
    matmul_precision: str = "bfloat16"
    remat: bool = False
    accumulate: int = 1
    model: int = 1
    shard_optimizer: bool = False


def tpu(topology: str) -> list[jax.Device]:
    """Returns the devices of a TPU that need not exist, such as "v5e:16x16"."""
    return topologies.get_topology_desc(topology, "tpu").devices


def compile_step(program: Program, devices: list[jax.Device]) -> Compiled:
    """Compiles the paper's training step as `vgg_jax.train` runs it."""
    config = vgg("D")
    config.model.remat = program.remat
    model = build_model(
        config.model,
        image_size=config.data.image_size,
        compute_dtype=program.compute_dtype,
        matmul_precision=program.matmul_precision,
    )
    optimizer = make_optimizer(config.optimizer, make_schedule(config.optimizer, 5004.0, 370_000))
    parallel = make_parallel(
        "jit",
        program.model,
        shard_optimizer=program.shard_optimizer,
        devices=devices[: program.devices],
    )
    loss = TrainLoss(parallel.adapted(model), seed=0, accumulate=program.accumulate)
    augment = make_train_augment(config.data, source=None)
    train_step = parallel.compile_train(make_train_step(loss, optimizer, augment))
    size = config.data.image_size
    state = parallel.abstract(
        lambda: new_state(init_variables(model, 0, size), optimizer, with_ema=False)
    )
    over_devices = NamedSharding(state.step.sharding.mesh, PartitionSpec(("data", "model")))
    count = program.batch_size
    batch = {
        name: jax.ShapeDtypeStruct(shape, dtype, sharding=over_devices)
        for name, shape, dtype in (
            ("image", (count, size, size, 3), jnp.uint8),
            ("label", (count,), jnp.int32),
            ("mask", (count,), jnp.bool_),
        )
    }
    # Use the convolutions of accelerators, even if the CPU's compiler divides the work.
    with every_platform():
        return train_step.trace(state, batch).lower(lowering_platforms=("tpu",)).compile()


def memory(compiled: Compiled) -> dict[str, int]:
    """Returns bytes on each device: "state and batch", "temporary" and their sum "peak"."""
    analysis = compiled.memory_analysis()
    resident = analysis.argument_size_in_bytes
    resident += analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    temporary = analysis.temp_size_in_bytes
    return {
        "state and batch": resident,
        "temporary": temporary,
        "peak": resident + temporary,
    }


_COLLECTIVE = re.compile(
    r"= (?P<shape>\(?[a-z]\w*\[.*?) "
    r"(?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?P<start>-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+?)(\d*)(?:e\w+)?\[([\d,]*)\]")


def collectives(text: str) -> list[dict[str, str | int]]:
    """Returns kind, dtype, group size and bytes of every collective operation in HLO text.

    The bytes are those of the whole array that a group of devices reduces, gathers or scatters.
    """
    found = []
    for line in text.splitlines():
        match = _COLLECTIVE.search(line)
        if not match:
            continue
        kind, group = match["kind"], group_size(line)
        arrays = _ARRAY.findall(match["shape"])
        if match["start"] and kind != "all-reduce":  # (operands, results)
            arrays = arrays[len(arrays) // 2 :]
        for letters, bits, shape in arrays:
            size = math.prod(int(n) for n in shape.split(",") if n)
            scattered = group if kind == "reduce-scatter" else 1
            found.append(
                {
                    "kind": kind,
                    "dtype": letters + bits,
                    "group": group,
                    "bytes": size * int(bits or 8) // 8 * scattered,
                }
            )
    return found


def group_size(line: str) -> int:
    """Returns how many devices take part in one group of a collective operation."""
    if match := re.search(r"replica_groups=mesh\[(.*?)\][^{]*\{(.*?)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(match[2])
    if match := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(match[1].split(","))
    if match := re.search(r"source_target_pairs=", line):
        return 2
    raise ValueError(f"no group in {line}")
