"""Measures the curvature of the loss along full-batch descents, with batch norm and without.

    python -m experiments.curvature.run [--preset=quick|full] [--data_dir=FILE.npz] [--out=DIR]
    python -m experiments.curvature.run --redraw [--preset=quick|full] [--out=DIR]

The largest eigenvalue of the Hessian and its trace along gradient descent, heavy ball and Nesterov
on squared error; the largest rate that trains; and what the size of the weights does to curvature.
`--data_dir` names an .npz file of CIFAR-10; without it the images are the embedded digits. The same
command resumes. Writes edge.csv.gz, rates.csv, scale.csv, table.md, edge.png and record.json.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from experiments.curvature import figures
from experiments.curvature.descents import (
    PRESETS,
    STABLE,
    Preset,
    Problem,
    edge_rows,
    problem,
    rate_rows,
    scale_rows,
)
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, select, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache

KEYS = ("net", "norm", "seed")
EDGE = ("optimizer", "threshold", "rate", "limit", "step", "quantity", "value")
TABLES = {
    "edge.csv.gz": (*KEYS, *EDGE),
    "rates.csv": (*KEYS, "factor", "rate", "loss", "trains"),
    "scale.csv": (*KEYS, "scale", "sharpness", "gradient", "cosine"),
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("--data_dir", help="CIFAR-10 as .npz, with x_train and y_train")
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        enable_compilation_cache()
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        for _ in measure(PRESETS[arguments.preset], arguments.data_dir, out):
            record.write()
    figures.draw(*(read_table(stored(out / name)) for name in TABLES), out)
    return 0


def measure(preset: Preset, data_dir: str | None, out: Path) -> Iterator[None]:
    """Measures what the tables in `out` lack, net by net; yields when a part is written."""
    for net, seed, norm in itertools.product(preset.nets, range(preset.seeds), figures.NORMS):
        of = functools.cache(partial(problem, net, norm, seed, preset, data_dir))
        cell = {"net": net if isinstance(net, str) else " ".join(net), "norm": norm, "seed": seed}
        yield from _add(out / "scale.csv", cell, of, scale_rows)
        yield from _add(out / "rates.csv", cell, of, partial(rate_rows, preset=preset))
        for threshold, name in itertools.product(preset.thresholds, STABLE):
            descent = cell | {"optimizer": name, "threshold": f"{threshold:g}"}
            rows = partial(edge_rows, preset=preset, name=name, threshold=threshold)
            yield from _add(out / "edge.csv.gz", descent, of, rows)


def _add(
    path: Path,
    cell: dict[str, Any],
    of: Callable[[], Problem],
    measured: Callable[[Problem], Iterable[dict[str, Any]]],
) -> Iterator[None]:
    """Adds to a table the rows of a cell and yields, unless it has them."""
    table = read_table(path) if path.exists() else {}
    if table and len(select(table, **cell)["net"]):
        return
    rows = [*table_rows(table), *(cell | row for row in measured(of()))]
    write_table(path, rows, TABLES[path.name])
    print(f"{path.name}: {', '.join(map(str, cell.values()))}", flush=True)
    yield


if __name__ == "__main__":
    run_command(main)
