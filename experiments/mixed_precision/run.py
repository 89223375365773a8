"""Trains a narrow VGG-11 with batch norm on handwritten digits in float32 and in bfloat16.

    python -m experiments.mixed_precision.run [--seeds=3] [--out=DIR] [--config.KEY=VALUE ...]
    python -m experiments.mixed_precision.run --redraw [--out=DIR]

Writes `accuracy.csv` (a line per run), `accuracy.md` (mean and range) and `record.json`.
`--redraw` writes `accuracy.md` again, without training.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vgg_jax.cli import run_command
from vgg_jax.config import load_config
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import Table, markdown, read_table, select, write_table
from vgg_jax.training.loop import train

SPEC = "configs/vgg11.py:digits,bn"
OVERRIDES = ["--config.model.width=0.125"]
DTYPES = ("float32", "bfloat16")
COLUMNS = ("compute_dtype", "seed", "steps", "top1", "loss", "examples")


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds; default: 3")
    arguments, changes = parser.parse_known_args(argv)
    path = arguments.out / "accuracy.csv"
    if arguments.redraw:
        parser.parse_args(argv)  # a change of the config has no effect here: refuse it
    else:
        running = Record(arguments.out, parser.module, argv)
        overrides = [*OVERRIDES, *changes]
        configs = [
            load_config(
                SPEC, [*overrides, f"--config.compute_dtype={dtype}", f"--config.seed={seed}"]
            )
            for seed in range(arguments.seeds)
            for dtype in DTYPES
        ]
        rows = [accuracy(config) for config in configs]
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_table(path, rows, COLUMNS)
        running.write(config=SPEC, overrides=overrides)
    (arguments.out / "accuracy.md").write_text(table(read_table(stored(path))))
    return 0


def accuracy(config: ConfigDict) -> dict[str, Any]:
    """Trains once; returns a row of `accuracy.csv`."""
    with tempfile.TemporaryDirectory() as workdir:
        summary = train(config, Path(workdir), time.perf_counter())
    scores = {name: summary["metrics"][f"eval/{name}"] for name in ("top1", "loss", "examples")}
    described = {"compute_dtype": config.compute_dtype, "seed": config.seed}
    return described | {"steps": summary["steps"]} | scores


def table(rows: Table) -> str:
    """Returns mean and range over the seeds."""
    lines = []
    for dtype in DTYPES:
        scores = select(rows, compute_dtype=dtype)["top1"].astype(float)
        numbers = [f"{score:.2%}" for score in (scores.mean(), scores.min(), scores.max())]
        lines.append([dtype, *numbers, len(scores)])
    return markdown(["compute dtype", "top-1, mean", "lowest", "highest", "seeds"], lines, "lrrrr")


if __name__ == "__main__":
    run_command(main)
