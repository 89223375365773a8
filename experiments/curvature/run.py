"""Measures the curvature of the loss along full-batch descents, with batch norm and without.

    python -m experiments.curvature.run [--preset=quick|full] [--data_dir=FILE.npz] [--out=DIR]
    python -m experiments.curvature.run --redraw [--preset=quick|full] [--out=DIR]

The largest eigenvalue of the Hessian and its trace along gradient descent, heavy ball and Nesterov
on squared error; the largest rate that trains; and what the size of the weights does to curvature.
`--data_dir` names an .npz file of CIFAR-10; without it the images are the embedded digits. The same
command resumes. Writes edge.csv.gz, rates.csv, scale.csv, table.md, edge.png and record.json.
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from experiments.curvature import figures
from experiments.curvature.descents import (
    PRESETS,
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
from vgg_jax.runs.tables import read_table, table_rows, write_table
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
        measure(PRESETS[arguments.preset], arguments.data_dir, out)
        record.write()
    figures.draw(*(read_table(stored(out / name)) for name in TABLES), out)
    return 0


def measure(preset: Preset, data_dir: str | None, out: Path) -> None:
    """Measures what the tables in `out` lack, net by net, and writes them after each."""
    parts: dict[str, Callable[[Problem], Iterable[dict[str, Any]]]] = {
        "scale.csv": scale_rows,
        "rates.csv": lambda of: rate_rows(of, preset),
        "edge.csv.gz": lambda of: edge_rows(of, preset),
    }
    for seed, net, norm in itertools.product(range(preset.seeds), preset.nets, ("none", "batch")):
        label = net if isinstance(net, str) else " ".join(net)
        for name, part in parts.items():
            path = out / name
            rows = table_rows(read_table(path)) if path.exists() else []
            if (label, norm, seed) in {(row["net"], row["norm"], row["seed"]) for row in rows}:
                continue
            of = problem(net, norm, seed, preset, data_dir)
            constants = {"net": label, "norm": norm, "seed": seed}
            rows += [constants | row for row in part(of)]
            write_table(path, rows, TABLES[name])
            print(f"seed {seed}, net {label}, norm {norm}: {name}", flush=True)


if __name__ == "__main__":
    run_command(main)
