"""Which nets train at all: depth x initialiser x batch norm x learning rate, and the paper's cure.

    python -m experiments.trainability.run [--preset=quick|full] [--out=DIR]
    python -m experiments.trainability.run --redraw [--preset=quick|full] [--out=DIR]

The first trains every cell of the map on the embedded digits for a fixed number of steps; run it
again to resume. `--redraw` (or the word `figures`) draws the map again from the csv, without
training.
"""

import itertools
from pathlib import Path

from experiments.trainability import figures
from experiments.trainability.presets import PRESETS, Preset
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(
        __file__,
        __doc__,
        presets=[*PRESETS],
        folder_per_preset=True,
        redraw_word=("what", "figures"),
    )
    parser.add_argument("what", nargs="?", choices=("train", "figures"), default="train")
    arguments = parser.parse_args(argv)
    table = arguments.out / figures.TABLE
    if not arguments.redraw:
        arguments.out.mkdir(parents=True, exist_ok=True)
        record = Record(arguments.out, parser.module, argv)
        train_all(PRESETS[arguments.preset], table)
        record.write()
    figures.draw(stored(table).parent)
    return 0


def train_all(preset: Preset, path: Path) -> None:
    """Trains the cells that the table at `path` lacks, and writes it after every net and norm."""
    from experiments.trainability.cells import CURE, train_cells  # starts JAX

    enable_compilation_cache()
    rows: list[dict] = []
    if path.exists():
        rows = table_rows(read_table(path))
    done = {(row["net"], row["norm"]) for row in rows}
    for net, norm in itertools.product(preset.nets, ("none", "batch")):
        if (net, norm) in done:
            continue
        # Net A is what the cure starts from, so it is not cured itself.
        inits = preset.inits + ((CURE,) if net != "A" and norm == "none" else ())
        print(f"net {net}, norm {norm}: {len(inits) * len(preset.rates)} cells", flush=True)
        rows += train_cells(net, norm, inits, preset)
        write_table(path, rows, figures.COLUMNS)


if __name__ == "__main__":
    run_command(main)
