"""How gradients travel through plain networks at initialisation, measured and predicted.

    python -m experiments.init_gradients.run [--preset=NAME] [--out=DIR] [--data_dir=FILE.npz]
                                             [--nets=NET,NET,...]
    python -m experiments.init_gradients.run --redraw [--preset=NAME] [--out=DIR]
    python -m experiments.init_gradients.run sgd [--preset=NAME] [--out=DIR] [--data_dir=FILE.npz]

The first measures one cell after another, in the order of `grid.py`; run it again to resume.
`--data_dir` names an .npz file of CIFAR-10; without it the real images are the embedded digits.
`--nets` chooses nets, so that several processes can share the work, each with its own `--out`.
`--redraw` (or the word `figures`) writes tables and figures again from the csv, without measuring.
`sgd` takes the few steps of SGD that `sgd.py` names.
"""

import dataclasses
import time
from pathlib import Path

from experiments.init_gradients import figures
from experiments.init_gradients.grid import PRESETS, Cell, Preset, real_images
from vgg_jax.cli import run_command
from vgg_jax.errors import unknown_name
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
    parser.add_argument("what", nargs="?", choices=("measure", "sgd", "figures"), default="measure")
    parser.add_argument("--nets", type=lambda names: names.split(","), help="default: all")
    parser.add_argument("--data_dir", help="CIFAR-10 as .npz, with x_train and y_train")
    arguments = parser.parse_args(argv)
    out, data_dir = arguments.out, arguments.data_dir
    if arguments.what == "sgd":
        folder = (out / figures.SGD_TABLE).parent
        descend(out, data_dir, Record(folder, parser.module, argv))
    elif not arguments.redraw:
        preset = PRESETS[arguments.preset]
        measure(preset, arguments.nets, out, data_dir, Record(out, parser.module, argv))
    gather(out)
    if not (out / figures.SGD_TABLE).exists():
        stored(out / figures.TABLE)
    figures.draw(out)
    return 0


def measure(
    preset: Preset, nets: list[str] | None, out: Path, data_dir: str | None, record: Record
) -> None:
    """Measures the cells that are not stored yet, each into a file of its own."""
    from experiments.init_gradients.measure import measure_cell  # starts JAX

    cells = preset.cells(real_images(data_dir))
    if nets is not None:
        known = {cell.net for cell in cells}
        for net in nets:
            if net not in known:
                raise unknown_name("net of this preset", net, known)
        cells = [cell for cell in cells if cell.net in nets]
    enable_compilation_cache()
    (out / "cells").mkdir(parents=True, exist_ok=True)
    known_cells = stored_cells(out)
    left = [cell for cell in cells if cell not in known_cells]
    print(f"{len(cells)} cells, {len(cells) - len(left)} of them stored in {out}", flush=True)
    start = time.perf_counter()
    for done, cell in enumerate(left, 1):
        rows = measure_cell(cell, preset.seeds, data_dir, preset.quantities)
        write_table(out / "cells" / f"{cell.name}.csv", rows)
        record.write(cells=done)
        seconds = (time.perf_counter() - start) / done * (len(left) - done)
        print(f"{done}/{len(left)}  {cell.name}  about {seconds / 60:.0f} min left", flush=True)


def descend(out: Path, data_dir: str | None, record: Record) -> None:
    """Makes the runs of SGD and stores their gradients and losses."""
    from experiments.init_gradients.sgd import QUESTIONS, SGD_COLUMNS, measure_descent

    enable_compilation_cache()
    path = out / figures.SGD_TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for descent in QUESTIONS:
        rows += measure_descent(descent, real_images(data_dir), data_dir)
        write_table(path, rows, SGD_COLUMNS)
    record.write()


def stored_cells(out: Path) -> set[Cell]:
    """Returns the cells that have been measured."""
    table = read_table(*_files(out))
    if not table:
        return set()
    columns = (table[field.name].tolist() for field in dataclasses.fields(Cell))
    return {Cell(*key) for key in set(zip(*columns, strict=True))}


def gather(out: Path) -> None:
    """Moves the rows of the cells' files into one table."""
    files = _files(out)
    if not files:
        return
    write_table(out / figures.TABLE, table_rows(read_table(*files)))
    for path in files:
        if path.parent != out:
            path.unlink()


def _files(out: Path) -> list[Path]:
    table = out / figures.TABLE
    return [table] * table.exists() + sorted((out / "cells").glob("*.csv"))


if __name__ == "__main__":
    run_command(main)
