"""Whether the norms of gradients decide what trains, or how alike gradients are.

    python -m experiments.gradient_profile.run [--preset=quick|full] [--out=DIR]
    python -m experiments.gradient_profile.run --preset=cifar10 --data_dir=FILE.npz [--out=DIR]
    python -m experiments.gradient_profile.run --redraw [--preset=NAME] [--out=DIR]

Trains the nets of `depth_limit` with other norms of the gradient per layer, and measures how alike
their gradients at two inputs are. The runs without intervention are those that
`experiments.depth_limit.run --preset=NAME` stored: run it first. What is stored is not measured
again. Writes runs.csv, coherence.csv, table.md, profile.png and record.json.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from experiments.gradient_profile import report
from experiments.gradient_profile.presets import CHANNELS, PRESETS, SEEDS
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("--data_dir", type=Path, help="the .npz file of CIFAR-10, for cifar10")
    parser.add_argument("--base", type=Path, help="results of depth_limit; default: the preset's")
    arguments = parser.parse_args(argv)
    out = arguments.out
    base = arguments.base or parser.results.parents[1] / "depth_limit/results" / arguments.preset
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        measure(arguments.preset, out, arguments.data_dir, record)
    stored(out / report.RUNS)
    report.write(out, stored(base))
    return 0


def measure(name: str, out: Path, data_dir: Path | None, record: Record) -> None:
    """Measures the cells that `out` lacks, and stores each, and the record with it."""
    from experiments.depth_limit.training import load, make_net, tuned  # starts JAX
    from experiments.gradient_profile.arms import ARMS
    from experiments.gradient_profile.coherence import coherence

    enable_compilation_cache()
    preset = PRESETS[name]
    data = load(preset.data, data_dir)
    tables = {
        path: table_rows(read_table(out / path)) if (out / path).exists() else []
        for path in report.COLUMNS
    }

    def add(path: str, rows: list[dict[str, Any]], **constants: Any) -> None:
        tables[path] += [constants | row for row in rows]
        write_table(out / path, tables[path], report.COLUMNS[path])

    def lacks(path: str, **cell: Any) -> bool:
        return not any(
            all(str(row[key]) == str(value) for key, value in cell.items()) for row in tables[path]
        )

    for layers, (label, arm) in itertools.product(preset.layers, ARMS.items()):
        if lacks(report.RUNS, arm=label, layers=layers):
            print(f"{label}, {layers} layers", flush=True)
            net = make_net(arm.kind, layers, preset.channels, data)
            rows, _ = tuned(net, data, preset, adjust=arm.adjust, warm_up=arm.warm_up)
            add(report.RUNS, rows, arm=label, layers=layers)
            record.write()
    for border, layers, kind in itertools.product(
        report.BORDERS, preset.gradient_layers, report.PLANE
    ):
        cell = {"kind": kind, "layers": layers, "channels": CHANNELS[name], "border": border}
        if lacks(report.COHERENCE, **cell):
            net = make_net(kind, layers, CHANNELS[name], data)
            net = dataclasses.replace(net, periodic=border == "periodic")
            add(report.COHERENCE, coherence(net, SEEDS[name]), **cell)
            record.write()


if __name__ == "__main__":
    run_command(main)
