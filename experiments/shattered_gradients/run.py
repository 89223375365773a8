"""How alike the gradients at two inputs are, against their own correlation and the depth.

    python -m experiments.shattered_gradients.run [--preset=quick|full] [--out=DIR]
    python -m experiments.shattered_gradients.run --redraw [--preset=quick|full] [--out=DIR]

Measures dL/dx of plain, batch-normed and residual ReLU networks at initialisation: for pairs of
inputs, and along a line. What is stored is not measured again. Writes measurements.csv.gz,
readout.csv, table.md, coherence.png and record.json.
"""

import dataclasses
from pathlib import Path

from experiments.shattered_gradients import report
from experiments.shattered_gradients.cells import DENSE, LINE, PRESETS, Preset
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        if measured := measure(PRESETS[arguments.preset], out):
            record.write(cells=measured)
    stored(out / report.TABLE)
    report.write(out)
    return 0


def measure(preset: Preset, out: Path) -> int:
    """Measures what `out` lacks, and writes it after every cell; returns how much that was."""
    from experiments.shattered_gradients.measure import measure_cell  # starts JAX
    from experiments.shattered_gradients.readout import measure_readout

    enable_compilation_cache()
    measured = 0
    if not (out / report.READOUT).exists():
        rows = measure_readout(preset.vgg_seeds)
        write_table(out / report.READOUT, rows, report.READOUT_COLUMNS)
        measured += 1
    table = out / report.TABLE
    rows = table_rows(read_table(table)) if table.exists() else []
    done = {tuple(row[name] for name in report.CELL) for row in rows}
    for cell in preset.cells:
        if dataclasses.astuple(cell) in done:
            continue
        print(f"{cell.net} {cell.width}, {cell.kind}, inputs {cell.inputs}", flush=True)
        depths = preset.line_depths if cell.inputs == LINE else preset.depths
        seeds = preset.seeds if cell.net == DENSE else preset.vgg_seeds
        constants = dataclasses.asdict(cell)
        rows += [constants | row for row in measure_cell(cell, depths, seeds)]
        write_table(table, rows, report.COLUMNS)
        measured += 1
    return measured


if __name__ == "__main__":
    run_command(main)
