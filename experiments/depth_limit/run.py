"""How deep a plain net can get, and a residual one of the same blocks.

    python -m experiments.depth_limit.run [--preset=quick|full] [--out=DIR]
    python -m experiments.depth_limit.run --preset=cifar10 --data_dir=FILE.npz [--out=DIR]
    python -m experiments.depth_limit.run --redraw [--preset=NAME] [--out=DIR]

Measures gradients at the start and the variances that batch norm divides by, trains every kind of
net at every depth at its best rate, and takes layers out of trained ones. What is stored is not
measured again. Writes gradients.csv.gz, variances.csv.gz, runs.csv, lesions.csv, table.md,
depth.png and record.json.
"""

import itertools
from pathlib import Path
from typing import Any

from experiments.depth_limit import report
from experiments.depth_limit.presets import PRESETS, Preset
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("--data_dir", type=Path, help="the .npz file of CIFAR-10, for cifar10")
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        measure(PRESETS[arguments.preset], out, arguments.data_dir, record)
    stored(out / report.RUNS)
    report.write(out)
    return 0


def measure(preset: Preset, out: Path, data_dir: Path | None, record: Record) -> None:
    """Measures the cells that `out` lacks, and stores each, and the record with it."""
    from experiments.depth_limit.measure import gradients, lesions, variances  # starts JAX
    from experiments.depth_limit.nets import KINDS
    from experiments.depth_limit.training import load, make_net, tuned

    enable_compilation_cache()
    data = load(preset.data, data_dir)
    tables = {name: _rows(out / name) for name in report.COLUMNS}

    def add(name: str, rows: list[dict[str, Any]], **constants: Any) -> None:
        tables[name] += [constants | row for row in rows]
        write_table(out / name, tables[name], report.COLUMNS[name])

    def lacks(name: str, **constants: Any) -> bool:
        return not any(
            all(str(row[key]) == str(value) for key, value in constants.items())
            for row in tables[name]
        )

    for layers, kind in itertools.product(preset.layers, KINDS):
        cell = {"kind": kind, "layers": layers}
        if lacks(report.RUNS, **cell):
            print(f"{kind}, {layers} layers", flush=True)
            net = make_net(kind, layers, preset.channels, data)
            rows, runs = tuned(net, data, preset)
            if layers == preset.lesion_layers and lacks(report.LESIONS, **cell):
                add(report.LESIONS, lesions(net, runs, data), **cell)
            add(report.RUNS, rows, **cell)
            record.write()
    for channels, layers, kind in itertools.product(
        preset.gradient_channels, preset.gradient_layers, KINDS
    ):
        cell = {"kind": kind, "layers": layers, "channels": channels}
        measured = {report.GRADIENTS: gradients}
        if report.normalized(kind):
            measured[report.VARIANCES] = variances
        for name, of in measured.items():
            if lacks(name, **cell):
                net = make_net(kind, layers, channels, data)
                add(name, of(net, data, preset.gradient_seeds), **cell)
                record.write()


def _rows(path: Path) -> list[dict[str, Any]]:
    return table_rows(read_table(path)) if path.exists() else []


if __name__ == "__main__":
    run_command(main)
