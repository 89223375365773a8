"""Measures how smooth the loss is along training, with batch norm and without.

    python -m experiments.bn_landscape.run [--preset=quick|full] [--data_dir=FILE.npz] [--out=DIR]
    python -m experiments.bn_landscape.run --redraw [--preset=quick|full] [--out=DIR]

Net A, plain SGD, several learning rates and three seeds: without batch norm, with it, and with
noise behind it (Santurkar et al. 2018). `--data_dir` names an .npz file of CIFAR-10; without it the
images are the embedded digits. The same command resumes. Writes landscape.csv.gz, surface.csv.gz,
table.md, landscape.png, surface.png and record.json.
"""

import itertools
from pathlib import Path

from experiments.bn_landscape import figures
from experiments.bn_landscape.trajectories import (
    NORMS,
    PRESETS,
    Preset,
    Trajectory,
    follow,
    surface,
)
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache

COLUMNS = ("norm", "learning_rate", "seed", "step", "quantity", "value")
SURFACE_COLUMNS = ("norm", "learning_rate", "a", "b", "loss")


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("--data_dir", help="CIFAR-10 as .npz, with x_train and y_train")
    arguments = parser.parse_args(argv)
    table, plane = (arguments.out / name for name in ("landscape.csv.gz", "surface.csv.gz"))
    if not arguments.redraw:
        enable_compilation_cache()
        arguments.out.mkdir(parents=True, exist_ok=True)
        record = Record(arguments.out, parser.module, argv)
        train(PRESETS[arguments.preset], arguments.data_dir, table)
        picture(PRESETS[arguments.preset], arguments.data_dir, table, plane)
        record.write()
    figures.draw(read_table(stored(table)), read_table(stored(plane)), arguments.out)
    return 0


def train(preset: Preset, data_dir: str | None, path: Path) -> None:
    """Follows the trajectories that the table at `path` lacks, and writes it after each."""
    rows = table_rows(read_table(path)) if path.exists() else []
    done = {(row["norm"], float(row["learning_rate"]), row["seed"]) for row in rows}
    for seed, norm, rate in itertools.product(range(preset.seeds), NORMS, preset.rates):
        if (norm, rate, seed) in done:
            continue
        _, found = follow(Trajectory(norm, rate, seed), preset, data_dir)
        rows += found
        write_table(path, rows, COLUMNS)
        print(f"seed {seed}, {norm}, rate {rate:g}: accuracy {found[-1]['value']:.1%}", flush=True)


def picture(preset: Preset, data_dir: str | None, table: Path, path: Path) -> None:
    """Measures the planes around the ends of seed 0's best runs, if they are not stored."""
    if path.exists():
        return
    best = figures.best_rates(read_table(table))
    planes = [surface(Trajectory(norm, best[norm], 0), preset, data_dir) for norm in NORMS]
    write_table(path, itertools.chain(*planes), SURFACE_COLUMNS)


if __name__ == "__main__":
    run_command(main)
