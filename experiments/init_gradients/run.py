"""How gradients travel through plain networks at initialisation, measured and predicted.

    python -m experiments.init_gradients.run [--preset=NAME] [--out=DIR] [--data_dir=FILE.npz]
                                             [--nets=NET,NET,...]
    python -m experiments.init_gradients.run figures [--preset=NAME] [--out=DIR]
    python -m experiments.init_gradients.run sgd [--preset=NAME] [--out=DIR] [--data_dir=FILE.npz]

The first measures cell after cell, in the order of `grid.py`, and goes on where it was stopped;
`--data_dir` gives CIFAR-10 as an .npz file for the real images, else they are the embedded digits;
`--nets` chooses nets, so that several processes can share the work, each with its own `--out`.
The second rebuilds tables and figures from the csv, without measuring. The third makes the few
steps of SGD that `sgd.py` names.
"""

import dataclasses
import time
from pathlib import Path

from experiments.init_gradients import figures
from experiments.init_gradients.grid import PRESETS, Cell, Preset
from vgg_jax.cli import CommandParser, run_command
from vgg_jax.errors import UserError, unknown_name
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, write_table
from vgg_jax.xla import enable_compilation_cache

MODULE = "experiments.init_gradients.run"


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser(MODULE, __doc__)
    parser.add_argument("what", nargs="?", choices=("measure", "sgd", "figures"), default="measure")
    parser.add_argument("--preset", choices=[*PRESETS], default="quick")
    parser.add_argument("--out", type=Path, help="default: results/PRESET beside this file")
    parser.add_argument("--nets", type=lambda names: names.split(","), help="default: all")
    parser.add_argument("--data_dir", help="CIFAR-10 as .npz, with x_train and y_train")
    arguments = parser.parse_args(argv)
    out = arguments.out or Path(__file__).parent / "results" / arguments.preset
    if arguments.what == "measure":
        measure(PRESETS[arguments.preset], arguments.nets, out, arguments.data_dir, argv)
    if arguments.what == "sgd":
        descend(out, arguments.data_dir, argv)
    gather(out)
    if not (out / figures.TABLE).exists() and not (out / figures.SGD_TABLE).exists():
        raise UserError(f"nothing measured in {out}; run without 'figures' first")
    figures.draw(out)
    return 0


def measure(
    preset: Preset, nets: list[str] | None, out: Path, data_dir: str | None, argv: list[str]
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
    record = Record(out, MODULE, argv)
    stored = stored_cells(out)
    left = [cell for cell in cells if cell not in stored]
    print(f"{len(cells)} cells, {len(cells) - len(left)} of them stored in {out}", flush=True)
    start = time.perf_counter()
    for done, cell in enumerate(left, 1):
        rows = measure_cell(cell, preset.seeds, data_dir, preset.quantities)
        write_table(out / "cells" / f"{cell.name}.csv", rows)
        record.write(cells=done)
        seconds = (time.perf_counter() - start) / done * (len(left) - done)
        print(f"{done}/{len(left)}  {cell.name}  about {seconds / 60:.0f} min left", flush=True)


def descend(out: Path, data_dir: str | None, argv: list[str]) -> None:
    """Makes the runs of SGD and stores what they show."""
    from experiments.init_gradients.sgd import QUESTIONS, SGD_COLUMNS, measure_descent

    enable_compilation_cache()
    path = out / figures.SGD_TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    record = Record(path.parent, MODULE, argv)
    rows = []
    for descent in QUESTIONS:
        rows += measure_descent(descent, real_images(data_dir), data_dir)
        write_table(path, rows, SGD_COLUMNS)
    record.write()


def real_images(data_dir: str | None) -> str:
    """Returns the name of the real images."""
    return "digits" if data_dir is None else "cifar10"


def stored_cells(out: Path) -> set[Cell]:
    """Returns the cells that have been measured."""
    table = read_table(*_files(out))
    if not table:
        return set()
    columns = (table[field.name].tolist() for field in dataclasses.fields(Cell))
    return {Cell(*key) for key in set(zip(*columns, strict=True))}


def gather(out: Path) -> None:
    """Moves the rows of the cells' files into the one table."""
    files = _files(out)
    if not files:
        return
    table = read_table(*files)
    columns = zip(*table.values(), strict=True)
    write_table(out / figures.TABLE, (dict(zip(table, row, strict=True)) for row in columns))
    for path in files:
        if path.parent != out:
            path.unlink()


def _files(out: Path) -> list[Path]:
    table = out / figures.TABLE
    return [table] * table.exists() + sorted((out / "cells").glob("*.csv"))


if __name__ == "__main__":
    run_command(main)
