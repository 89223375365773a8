"""Counts the memory and the communication of VGG-16's training step, as XLA compiles it.

    python -m experiments.memory_and_communication.run [--programs=NAME,...] [--out=DIR]

Memory, and communication in bfloat16, as compiled for TPUs: needs libtpu (`pip install -e
'.[tpu]'`) but no TPU. Communication in float32 as divided among eight CPU devices, which takes
seconds. A program whose file is in DIR/programs is not compiled again. Then writes the tables
`memory.md`, `communication.md` and `scaling.md`, and `record.json`.
"""

import dataclasses
import importlib.metadata
import json
import os
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
from vgg_jax.cli import CommandParser, run_command
from vgg_jax.errors import UserError
from vgg_jax.runs.record import Record

GB = 10**9
SIZES = (16, 24, 40, 80)  # GB
ONE_DEVICE = "v5p:2x2x1"  # 95 GB a chip: what does not fit in less still compiles
EIGHT_DEVICES = "v5e:2x4"
CPU = "cpu"  # eight virtual devices, among which the same part of XLA divides the work

# Name -> topology and program.
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
    parser = CommandParser("experiments.memory_and_communication.run", __doc__)
    parser.add_argument("--programs", default=",".join(PROGRAMS), help="which to compile")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args(argv)
    jax.config.update("jax_num_cpu_devices", 8)
    running = Record(arguments.out, "experiments.memory_and_communication.run", argv)
    folder = arguments.out / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.programs.split(","):
        if name not in PROGRAMS:
            raise UserError(f"no program {name!r}; there are {', '.join(PROGRAMS)}")
        path = folder / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(measured(*PROGRAMS[name]), indent=1) + "\n")
        print(name, json.loads(path.read_text())["memory"], flush=True)
    results = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in PROGRAMS
        if (folder / f"{name}.json").exists()
    }
    (arguments.out / "memory.md").write_text(memory_table(results))
    (arguments.out / "communication.md").write_text(communication_table(results))
    (arguments.out / "scaling.md").write_text(scaling.table(results))
    running.write()
    return 0


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
    """Returns what one device needs, and which sizes of memory hold it."""
    lines = [
        "| compiled for | compute dtype | remat | accumulate | state and batch | temporary | peak "
        "| fits in |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for result in results.values():
        program, need = result["program"], result["memory"]
        if program["devices"] > 1:
            continue
        fits = [str(size) for size in SIZES if need["peak"] <= size * GB]
        lines.append(
            f"| {'a CPU' if result['topology'] == CPU else 'a TPU'} "
            f"| {program['compute_dtype']} | {'yes' if program['remat'] else 'no'} "
            f"| {program['accumulate']} | {need['state and batch'] / GB:.2f} GB "
            f"| {need['temporary'] / GB:.2f} GB | {need['peak'] / GB:.2f} GB "
            f"| {', '.join(fits) + ' GB' if fits else 'none of them'} |"
        )
    return "\n".join(lines) + "\n"


def communication_table(results: dict[str, dict]) -> str:
    """Returns what the devices share in a step, and what each sends for it in a ring."""
    lines = [
        "| devices | model | shard_optimizer | compute dtype | batch | operation | MB shared | "
        "MB sent by each |",
        "| ---: | ---: | --- | --- | ---: | --- | ---: | ---: |",
    ]
    for result in results.values():
        program = result["program"]
        if program["devices"] == 1:
            continue
        for row in result["collectives"]:
            if row["bytes"] < 10**6:  # scalars, labels
                continue
            lines.append(
                f"| {program['devices']} | {program['model']} "
                f"| {'yes' if program['shard_optimizer'] else 'no'} | {program['compute_dtype']} "
                f"| {program['batch_size']} | {row['kind']} of {row['dtype']} among {row['group']} "
                f"| {row['bytes'] / 1e6:.1f} | {scaling.sent(row) / 1e6:.1f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
