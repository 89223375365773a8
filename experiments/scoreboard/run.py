"""Sets what papers published and theory predicts beside what the stored results say.

    python -m experiments.scoreboard.run [--out=DIR]

Every number of ours is derived from the network or from a stored table, none is typed. Writes
scoreboard.csv.gz, table.md and record.json. Nothing is measured: run the experiments for that.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from experiments.scoreboard.curves import curve_rows
from experiments.scoreboard.depth import depth_rows
from experiments.scoreboard.fields import field_rows
from experiments.scoreboard.ours import ours
from experiments.scoreboard.rows import AGREES, DIFFERS, KINDS, NOT_RUN, Row
from experiments.scoreboard.shattered import shattered_rows
from experiments.scoreboard.signals import signal_rows
from experiments.scoreboard.theory import theory_rows
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import markdown, write_table

THEIRS = Path(__file__).with_name("theirs.csv")
COLUMNS = (
    *("kind", "quantity", "source", "theirs", "ours", "low", "high", "seeds"),
    *("tolerance", "chosen", "verdict", "reason", "file"),
)


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, redraw=False)
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out, parser.module, argv)
    rows = [
        *published_rows(),
        *theory_rows(),
        *signal_rows(),
        *shattered_rows(),
        *field_rows(),
        *curve_rows(),
        *depth_rows(),
    ]
    write_table(out / "scoreboard.csv.gz", map(cells, rows), COLUMNS)
    (out / "table.md").write_text(tables(rows))
    record.write()
    print((out / "table.md").read_text().split("\n\n")[0])
    return 0


def published_rows() -> Iterator[Row]:
    """Yields a row per line of theirs.csv."""
    with THEIRS.open(newline="") as file:
        for line in csv.DictReader(file):
            yield Row(
                quantity=line["quantity"],
                kind=line["kind"],
                source=line["source"],
                theirs=float(line["theirs"]),
                tolerance=line["tolerance"],
                chosen=line["chosen"],
                ours=ours(line["family"], line["key"]),
                reason=line["reason"],
            )


def cells(row: Row) -> dict[str, object]:
    """Returns a row as a line of scoreboard.csv.gz; a reason stands where ours differs."""
    found = row.ours
    return {
        "kind": row.kind,
        "quantity": row.quantity,
        "source": row.source,
        "theirs": row.theirs,
        "ours": found.value if found else "",
        "low": found.low if found else "",
        "high": found.high if found else "",
        "seeds": found.seeds if found else "",
        "tolerance": row.tolerance,
        "chosen": row.chosen,
        "verdict": row.verdict,
        "reason": row.reason if row.verdict == DIFFERS else "",
        "file": found.file if found else "",
    }


def tables(rows: Iterable[Row]) -> str:
    """Returns the verdicts counted by kind, then every row that is no identity."""
    rows = list(rows)
    counts = Counter((row.kind, row.verdict) for row in rows)
    verdicts = (AGREES, DIFFERS, NOT_RUN)
    lines = [
        [kind, *(counts[kind, verdict] for verdict in verdicts)]
        for kind in KINDS
        if any(counts[kind, verdict] for verdict in verdicts)
    ]
    parts = [markdown(["kind", *verdicts], lines, "lrrr")]
    for kind in KINDS[:-1]:
        chosen = [row for row in rows if row.kind == kind]
        if not chosen:
            continue
        head = ["quantity", "source", "theirs", "ours", "tolerance", "verdict"]
        parts.append(f"### {kind.capitalize()}\n")
        parts.append(markdown(head, map(_shown, chosen), "llrlll"))
    return "\n".join(parts)


def _shown(row: Row) -> list[str]:
    found, ours = row.ours, ""
    if found is not None:
        ours = f"{found.value:.4g}"
        ours += f" [{found.low:.4g}, {found.high:.4g}]" if found.seeds > 1 else ", one seed"
    verdict = row.verdict + (f": {row.reason}" if row.verdict == DIFFERS else "")
    tolerance = f"{row.tolerance}, {row.chosen}"
    return [row.quantity, row.source, f"{row.theirs:.4g}", ours, tolerance, verdict]


if __name__ == "__main__":
    run_command(main)
