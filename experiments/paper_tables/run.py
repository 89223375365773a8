"""Prints and writes the tables of the VGG paper, each published figure beside this project's.

    python -m experiments.paper_tables.run
    python -m experiments.paper_tables.run --tables 3 4 --weights D=vgg16.safetensors --data_dir=DIR

DIR has class folders of images, such as the validation set of ILSVRC-2012. Weights are named by
net, and by training scale if that is not [256;512]: D=FILE, D@256=FILE, E@384=FILE. Tables 1 and 2
are computed from the networks. Tables 3 to 7 show evaluations, of this run and of earlier ones
(stored in OUT/measured.json); "-" marks a cell without one. Without --weights the tables are
written from stored results.
"""

from pathlib import Path

from experiments.paper_tables.computed import configurations, parameters
from experiments.paper_tables.measured import measure, measured_cells, parse_weights
from experiments.paper_tables.tables import (
    Cells,
    Table,
    latex,
    markdown,
    read_tables,
    write_csv,
)
from vgg_jax.cli import run_command
from vgg_jax.errors import UserError
from vgg_jax.runs.experiments import ExperimentParser
from vgg_jax.runs.record import record
from vgg_jax.xla import enable_compilation_cache

FORMATS = {"md": markdown, "tex": latex}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    tables = read_tables()
    parser = ExperimentParser(__file__, __doc__, redraw=False)
    parser.add_argument("--tables", type=int, nargs="+", choices=list(tables), default=list(tables))
    parser.add_argument("--weights", nargs="+", default=[], metavar="NET=FILE")
    parser.add_argument("--data_dir", type=Path, help="class folders of images to evaluate")
    arguments = parser.parse_args(argv)
    weights = parse_weights(arguments.weights)
    if weights and arguments.data_dir is None:
        raise UserError("--weights needs images: give --data_dir=DIR with class folders")
    arguments.out.mkdir(parents=True, exist_ok=True)
    store = arguments.out / "measured.json"
    if weights:
        chosen = {number: tables[number] for number in arguments.tables}
        enable_compilation_cache()
        described = record(parser.module, argv)
        measure(chosen, weights, arguments.data_dir, store, described)
    for number in arguments.tables:
        cells, footnotes = _cells(tables, number, store)
        print(markdown(tables[number], cells, footnotes))
        write_table(tables[number], cells, footnotes, arguments.out)
    print(f"written to {arguments.out} as md, csv and tex")
    return 0


def write_table(table: Table, cells: Cells, footnotes: list[str], out: Path) -> None:
    """Writes a table as table_N.md, .csv and .tex."""
    path = out / f"table_{table.number:02d}"
    for suffix, text in FORMATS.items():
        path.with_suffix(f".{suffix}").write_text(text(table, cells, footnotes))
    write_csv(table, cells, path.with_suffix(".csv"))


def _cells(tables: dict[int, Table], number: int, store: Path) -> tuple[Cells, list[str]]:
    """Returns this project's figures for a table, and footnotes."""
    match number:
        case 1:
            return configurations(tables[1]), []
        case 2:
            return parameters(tables[2]), []
        case 3 | 4 | 5 | 6 | 7:
            return measured_cells(tables, number, store)
    return {}, ["Not measured here."]


if __name__ == "__main__":
    run_command(main)
