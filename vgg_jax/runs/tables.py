"""Tidy tables as csv, one measured value per line, gzipped if the name ends in .gz.

A table in memory is a dict of columns, all of one length.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.errors import UserError

Table = dict[str, np.ndarray]
Row = Mapping[str, Any]

# What does not apply to an experiment is left out.
COLUMNS = (
    "net",
    "init",
    "norm",
    "activation",
    "pooling",
    "data",
    "batch_size",
    "seed",
    "step",
    "layer",
    "depth",
    "quantity",
    "value",
)
_TYPES: dict[str, type] = {"batch_size": int, "seed": int, "step": int, "depth": int} | {
    "value": float
}


def tidy_rows(
    measured: Mapping[str, Mapping[str, Any]], layers: Sequence[str], **constants: Any
) -> list[dict[str, Any]]:
    """Returns a row for every value of {quantity: {layer: scalar}}.

    Args:
      measured: what a probe returned.
      layers: names of all layers, input to output; `depth` counts them from 1, and is 0 for a
        quantity of the whole network, whose layer is "all".
      **constants: the other columns, the same in every row.
    """
    depths = {"all": 0} | {layer: depth for depth, layer in enumerate(layers, 1)}
    return [
        constants
        | {"layer": layer, "depth": depths[layer], "quantity": quantity, "value": float(value)}
        for quantity, values in measured.items()
        for layer, value in values.items()
    ]


def write_table(path: Path, rows: Iterable[Row], columns: Sequence[str] = COLUMNS) -> None:
    """Writes a table so that a reader never sees half of it; numbers have five digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(_cells(row, columns) for row in rows)
    content = text.getvalue().encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # the same table gives the same file
    partial = path.with_name(f"partial.{path.name}")
    partial.write_bytes(content)
    partial.replace(path)


class TableWriter:
    """Appends rows to a plain csv file that an interrupted run may have begun."""

    def __init__(self, path: Path, before_step: int, columns: Sequence[str] = COLUMNS) -> None:
        """Opens the file, dropping rows of `before_step` and later, which will be made again."""
        self._columns = columns
        kept: list[Row] = []
        if path.exists():
            rows = csv.DictReader(io.StringIO(path.read_text(errors="replace")))
            kept = [row for row in rows if _is_before(row, before_step)]
        write_table(path, kept, columns)
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, rows: Iterable[Row]) -> None:
        """Appends rows and hands them to the file system."""
        self._writer.writerows(_cells(row, self._columns) for row in rows)
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def read_table(*paths: Path) -> Table:
    """Returns the rows of tables with the same columns, one after the other.

    Raises:
      UserError: a table is damaged.
    """
    lines: list[list[str]] = []
    names: list[str] = []
    try:
        for path in paths:
            reader = csv.reader(io.StringIO(_read(path)))
            names = next(reader)
            lines += reader
        columns = list(zip(*lines, strict=True)) if lines else [()] * len(names)
        return {
            name: np.array(column, _TYPES.get(name, str))
            for name, column in zip(names, columns, strict=True)
        }
    except (ValueError, StopIteration, EOFError, OSError, csv.Error, zlib.error) as error:
        raise UserError(f"{path} is damaged: {str(error) or 'it is empty'}") from error


def table_rows(table: Table) -> list[dict[str, Any]]:
    """Returns a table as a list of rows."""
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def select(table: Table, **wanted: Any) -> Table:
    """Returns the rows whose columns equal the given values, or are one of those in a list."""
    keep = np.ones(len(next(iter(table.values()))), bool)
    for name, value in wanted.items():
        if isinstance(value, list | tuple | set):
            keep &= np.isin(table[name], list(value))
        else:
            keep &= table[name] == value
    return {name: column[keep] for name, column in table.items()}


def pivot(table: Table, rows: str, columns: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the distinct entries of two columns and the values (rows, columns), NaN if absent.

    Where several rows of the table meet in one cell, the last one counts.
    """
    row_names, row_index = np.unique(table[rows], return_inverse=True)
    column_names, column_index = np.unique(table[columns], return_inverse=True)
    values = np.full((len(row_names), len(column_names)), np.nan)
    values[row_index, column_index] = table["value"]
    return row_names, column_names, values


def markdown(head: Sequence[str], rows: Iterable[Sequence[Any]], align: str = "") -> str:
    """Returns a Markdown table, ending in a newline.

    Args:
      head: names of the columns.
      rows: their cells.
      align: a letter per column, "r" for numbers that stand at the right; "" for none.
    """
    rule = ["---:" if letter == "r" else "---" for letter in align.ljust(len(head))]
    return "".join(markdown_line(line) + "\n" for line in (head, rule, *rows))


def markdown_line(cells: Iterable[Any]) -> str:
    """Returns one line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the mean of a sample (n,) and half the width of its 95% interval (Student's t)."""
    from scipy.special import stdtrit  # scipy.stats takes three times as long to import

    count = len(values)
    if count < 2:
        return float(np.mean(values)), float("nan")
    spread = stdtrit(count - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(count)
    return float(np.mean(values)), float(spread)


def _is_before(row: Row, step: int) -> bool:
    """Says whether a row is of an earlier step; not if it was cut off, or damaged otherwise."""
    try:
        float(row["value"])
        return int(row["step"]) < step
    except (KeyError, TypeError, ValueError):
        return False


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    cells = (row[name] for name in columns)
    return [f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in cells]


def _read(path: Path) -> str:
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
