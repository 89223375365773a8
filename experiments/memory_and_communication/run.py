"""Counts the memory and the communication of VGG-16's training step, as XLA compiles it.

    python -m experiments.memory_and_communication.run [--programs=NAME,...] [--out=DIR]

Memory, and communication in bfloat16, as compiled for TPUs: needs libtpu (`pip install -e
'.[tpu]'`) but no TPU. Communication in float32 as divided among eight CPU devices, which takes
seconds. A program whose file is in DIR/programs is not compiled again. Then writes the tables
`memory.md`, `communication.md` and `scaling.md`, and `record.json`. `--redraw` only writes the
tables again.
"""

import dataclasses
import importlib.metadata
import json
import os
from functools import partial
from pathlib import Path

import jax

from experiments.memory_and_communication import scaling
from experiments.memory_and_communication.programs import (
    Program,
    collectives,
    compile_step,
    memory,
    tpu,
)
from vgg_jax.cli import run_command
from vgg_jax.errors import unknown_name
from vgg_jax.runs.experiments import ExperimentParser, measured_once, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import markdown

GB = 10**9
SIZES = (16, 24, 40, 80)  # GB
ONE_DEVICE = "v5p:2x2x1"  # 95 GB per chip, so that large programs compile too
EIGHT_DEVICES = "v5e:2x4"
CPU = "cpu"  # eight virtual devices: the same part of XLA divides the work

# Name: topology and program.
PROGRAMS: dict[str, tuple[str, Program]] = {
    "float32": (ONE_DEVICE, Program()),
    "float32_remat": (ONE_DEVICE, Program(remat=True)),
    "float32_accumulate4": (ONE_DEVICE, Program(accumulate=4)),
    "float32_accumulate8_remat": (ONE_DEVICE, Program(accumulate=8, remat=True)),
    "bfloat16": (ONE_DEVICE, Program(compute_dtype="bfloat16")),
    "bfloat16_remat": (ONE_DEVICE, Program(compute_dtype="bfloat16", remat=True)),
    "bfloat16_accumulate4": (ONE_DEVICE, Program(compute_dtype="bfloat16", accumulate=4)),
    "cpu_float32": (CPU, Program()),
    "cpu_float32_remat": (CPU, Program(remat=True)),
    "cpu_float32_accumulate4": (CPU, Program(accumulate=4)),
    "cpu_float32_accumulate8": (CPU, Program(accumulate=8)),
    "cpu_float32_accumulate16": (CPU, Program(accumulate=16)),
    "data8": (CPU, Program(devices=8)),
    "model8": (CPU, Program(devices=8, model=8)),
    "data4_model2": (CPU, Program(devices=8, model=2)),
    "data8_shard_optimizer": (CPU, Program(devices=8, shard_optimizer=True)),
    "data8_bfloat16": (EIGHT_DEVICES, Program(devices=8, compute_dtype="bfloat16")),
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__)
    parser.add_argument(
        "--programs",
        type=lambda names: names.split(","),
        default=[*PROGRAMS],
        help="names of the programs to compile; default: all",
    )
    arguments = parser.parse_args(argv)
    folder = arguments.out / "programs"
    if not arguments.redraw:
        jax.config.update("jax_num_cpu_devices", 8)
        compile_programs(arguments.programs, folder, Record(arguments.out, parser.module, argv))
    write_tables(stored(folder), arguments.out)
    return 0


def compile_programs(names: list[str], folder: Path, running: Record) -> None:
    """Compiles the programs that are not stored in the folder yet."""
    for name in names:
        if name not in PROGRAMS:
            raise unknown_name("program", name, PROGRAMS)
    for name in names:
        topology, program = PROGRAMS[name]
        compiled = partial(measured, topology, program)
        print(name, measured_once(folder / f"{name}.json", compiled)["memory"], flush=True)
        running.write()


def write_tables(folder: Path, out: Path) -> None:
    """Writes the tables of all stored programs."""
    results = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in PROGRAMS
        if (folder / f"{name}.json").exists()
    }
    (out / "memory.md").write_text(memory_table(results))
    (out / "communication.md").write_text(communication_table(results))
    (out / "scaling.md").write_text(scaling.table(results))


def measured(topology: str, program: Program) -> dict:
    """Compiles a program; returns its memory and what its collective operations share."""
    versions = {"jax": jax.__version__}
    if topology == CPU:
        devices = jax.devices(CPU)
    else:
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
        devices = tpu(topology)
        versions["libtpu"] = importlib.metadata.version("libtpu")
    compiled = compile_step(program, devices)
    totals: dict[tuple, int] = {}
    for operation in collectives(compiled.as_text()):
        key = (operation["kind"], operation["dtype"], operation["group"])
        totals[key] = totals.get(key, 0) + operation["bytes"]
    return {
        "topology": topology,
        "program": dataclasses.asdict(program),
        "versions": versions,
        "memory": memory(compiled),
        "collectives": [
            {"kind": kind, "dtype": dtype, "group": group, "bytes": size}
            for (kind, dtype, group), size in sorted(totals.items(), key=lambda item: -item[1])
        ],
    }


def memory_table(results: dict[str, dict]) -> str:
    """Returns the memory that one device needs, and the sizes of memory that suffice."""
    head = ["compiled for", "compute dtype", "remat", "accumulate", "state and batch", "temporary"]
    head += ["peak", "fits in"]
    lines = []
    for result in results.values():
        program, need = result["program"], result["memory"]
        if program["devices"] > 1:
            continue
        fits = [str(size) for size in SIZES if need["peak"] <= size * GB]
        lines.append(
            [
                "a CPU" if result["topology"] == CPU else "a TPU",
                program["compute_dtype"],
                yes_or_no(program["remat"]),
                program["accumulate"],
                *(f"{need[kind] / GB:.2f} GB" for kind in ("state and batch", "temporary", "peak")),
                ", ".join(fits) + " GB" if fits else "none of them",
            ]
        )
    return markdown(head, lines, "lllrrrrl")


def yes_or_no(setting: bool) -> str:
    """Returns the word for a table."""
    return "yes" if setting else "no"


def communication_table(results: dict[str, dict]) -> str:
    """Returns what the devices share in a step, and what each one sends in a ring."""
    head = ["devices", "model", "shard_optimizer", "compute dtype", "batch", "operation"]
    head += ["MB shared", "MB sent by each"]
    lines = []
    for result in results.values():
        program = result["program"]
        if program["devices"] == 1:
            continue
        for row in result["collectives"]:
            if row["bytes"] < 10**6:  # scalars, labels
                continue
            lines.append(
                [
                    program["devices"],
                    program["model"],
                    yes_or_no(program["shard_optimizer"]),
                    program["compute_dtype"],
                    program["batch_size"],
                    f"{row['kind']} of {row['dtype']} among {row['group']}",
                    f"{row['bytes'] / 1e6:.1f}",
                    f"{scaling.sent(row) / 1e6:.1f}",
                ]
            )
    return markdown(head, lines, "rrllrlrr")


if __name__ == "__main__":
    run_command(main)
