"""Does the paper's start train on images that are not divided by their standard deviation?

    python -m experiments.input_scale.run [--preset=quick|full] [--out=DIR]
    python -m experiments.input_scale.run --redraw [--preset=quick|full] [--out=DIR]

Trains nets without norm from kernels of one standard deviation, on digits of unit variance and on
the same times 58, then a few of them at many rates. Run it again to resume. Writes runs.csv.gz,
rates.csv.gz, table.md, input_scale.png, record.json.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.input_scale import report
from experiments.input_scale.train import train
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache

Start = tuple[str, float, bool]  # net, standard deviation, whether biases are trained


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is trained with every seed.

    Attributes:
      nets, stds, products: the grid; a product is that of learning rate and squared input scale,
        and is tried at each of `report.SCALES`.
      starts, scales, rates: the finer search for the rates that train.
      seeds: how many.
    """

    nets: tuple[str, ...]
    stds: tuple[float, ...]
    products: tuple[float, ...]
    starts: tuple[Start, ...]
    scales: tuple[float, ...]
    rates: tuple[float, ...]
    seeds: int
    width: float = 0.125
    steps: int = 200
    batch_size: int = 32


PRESETS = {
    "quick": Preset(
        nets=("A",),
        stds=(0.01, 0.03),
        products=(0.03, 3.0),
        starts=(("A", 0.03, True), ("A", 0.03, False)),
        scales=(1.0, 58.0),
        rates=(1e-3, 0.03),
        seeds=1,
        steps=120,
    ),
    "full": Preset(
        nets=("A", "B", "C", "D", "E"),
        stds=(0.005, 0.01, 0.03, 0.1),
        products=(0.003, 0.03, 0.3, 3.0, 30.0, 300.0),
        starts=(("A", 0.03, True), ("A", 0.03, False), ("A", 0.02, True)),
        scales=(1.0, 7.6, 58.0),
        rates=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0),
        seeds=3,
    ),
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        measure(PRESETS[arguments.preset], out)
        record.write()
    report.write(*(read_table(stored(out / name)) for name in (report.RUNS, report.RATES)), out)
    return 0


def measure(preset: Preset, out: Path) -> None:
    """Trains what the two tables in `out` lack."""
    enable_compilation_cache()
    grid = [(net, std, True) for net, std in itertools.product(preset.nets, preset.stds)]
    pairs = [(s, product / s**2) for s in report.SCALES for product in preset.products]
    complete(out / report.RUNS, grid, pairs, preset)
    fine = list(itertools.product(preset.scales, preset.rates))
    complete(out / report.RATES, preset.starts, fine, preset)


def complete(
    path: Path, starts: Iterable[Start], cells: Sequence[tuple[float, float]], preset: Preset
) -> None:
    """Trains the starts that a table lacks, with every seed, and writes it after each.

    Args:
      path: of the table.
      starts: what to train from.
      cells: pairs of input scale and rate to train each at.
      preset: of the training.
    """
    rows: list[dict[str, Any]] = table_rows(read_table(path)) if path.exists() else []
    done = {(int(row["seed"]), row["net"], float(row["std"]), row["biases"]) for row in rows}
    for seed, (net, std, biases) in itertools.product(range(preset.seeds), starts):
        if (seed, net, std, str(biases)) not in done:
            rows += train(
                net,
                std,
                seed,
                cells,
                width=preset.width,
                steps=preset.steps,
                batch_size=preset.batch_size,
                biases=biases,
            )
            write_table(path, rows, report.COLUMNS)
            kind = "" if biases else ", biases stay 0"
            print(f"seed {seed}, net {net}, deviation {std:g}{kind}: done", flush=True)


if __name__ == "__main__":
    run_command(main)
