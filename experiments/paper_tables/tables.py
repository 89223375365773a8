"""The tables of the paper as data, and how they are written beside the numbers of this project."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from vgg_jax.runs import tables

PUBLISHED = Path(__file__).parent / "published"
NONE = "-"  # marks a figure that the paper or this project does not have

# {(keys of the row, column): the figure of this project, as text}
Cells = Mapping[tuple[tuple[str, ...], str], str]


@dataclasses.dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
      number: in the paper.
      title: what it shows.
      note: how to read it.
      keys: names of the columns that say what a row is.
      columns: names of the columns that hold figures.
      rows: (keys of the row, {column: published figure, "" where the paper has none}).
    """

    number: int
    title: str
    note: str
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], dict[str, str]], ...]


def read_tables() -> dict[int, Table]:
    """Returns every table of the paper by its number."""
    found = {}
    for about in _read(PUBLISHED / "titles.csv"):
        number, key_count = int(about["table"]), int(about["keys"])
        rows = _read(PUBLISHED / f"table_{number}.csv")
        names = tuple(rows[0])
        keys, columns = names[:key_count], names[key_count:]
        found[number] = Table(
            number,
            about["title"],
            about["note"],
            keys,
            columns,
            tuple((tuple(r[k] for k in keys), {c: r[c] for c in columns}) for r in rows),
        )
    return found


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def markdown(table: Table, cells: Cells, footnotes: list[str]) -> str:
    """Returns a table in Markdown, each cell "published / here"."""
    header = [*table.keys, *(f"{column}: paper / here" for column in table.columns)]
    lines = tables.markdown(header, _pairs(table, cells))
    note = " ".join([table.note, *footnotes]).strip()
    return f"### Table {table.number}. {table.title}\n\n{lines}\n{note}\n"


def latex(table: Table, cells: Cells, footnotes: list[str]) -> str:
    """Returns a table for LaTeX with the package booktabs."""
    header = [*table.keys, *(f"{column}: paper / here" for column in table.columns)]
    body = [" & ".join(map(_escaped, row)) + r" \\" for row in _pairs(table, cells)]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{Table {table.number} of Simonyan and Zisserman (2014). "
            rf"{_escaped(' '.join([f'{table.title}.', table.note, *footnotes]).strip())}}}",
            rf"\begin{{tabular}}{{{'l' * len(header)}}}",
            r"\toprule",
            " & ".join(map(_escaped, header)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def write_csv(table: Table, cells: Cells, path: Path) -> None:
    """Writes published figures and those measured here in columns of their own."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [f"{column}, {side}" for column in table.columns for side in ("paper", "here")]
        writer.writerow([*table.keys, *names])
        for keys, published in table.rows:
            pairs = [(published[c], cells.get((keys, c), "")) for c in table.columns]
            writer.writerow([*keys, *(cell for pair in pairs for cell in pair)])


def _pairs(table: Table, cells: Cells) -> Iterator[list[str]]:
    for keys, published in table.rows:
        yield [
            *keys,
            *(
                f"{published[column] or NONE} / {cells.get((keys, column), NONE)}"
                for column in table.columns
            ),
        ]


def _escaped(text: str) -> str:
    for character, replacement in (
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("±", r"$\pm$"),
    ):
        text = text.replace(character, replacement)
    return text
