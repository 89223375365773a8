"""Trains a narrow VGG-11 with batch norm on handwritten digits in float32 and in bfloat16.

    python -m experiments.mixed_precision.run [--seeds=3] [--out=DIR]

Writes `accuracy.csv` (a line a run), `accuracy.md` (mean and range) and `record.json`.
"""

import csv
import tempfile
import time
from pathlib import Path

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.config import load_config
from vgg_jax.runs.record import Record
from vgg_jax.training.loop import train

SPEC = "configs/vgg11.py:digits,bn"
OVERRIDES = ["--config.model.width=0.125"]
DTYPES = ("float32", "bfloat16")
COLUMNS = ("compute_dtype", "seed", "steps", "top1", "loss", "examples")


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("experiments.mixed_precision.run", __doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args(argv)
    running = Record(arguments.out, "experiments.mixed_precision.run", argv)
    rows = [accuracy(dtype, seed) for seed in range(arguments.seeds) for dtype in DTYPES]
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / "accuracy.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (arguments.out / "accuracy.md").write_text(table(rows))
    running.write(config=SPEC, overrides=OVERRIDES)
    return 0


def accuracy(dtype: str, seed: int) -> dict:
    """Trains once; returns a row of `accuracy.csv`."""
    overrides = [*OVERRIDES, f"--config.compute_dtype={dtype}", f"--config.seed={seed}"]
    with tempfile.TemporaryDirectory() as workdir:
        summary = train(load_config(SPEC, overrides), Path(workdir), time.perf_counter())
    scores = {name: summary["metrics"][f"eval/{name}"] for name in ("top1", "loss", "examples")}
    return {"compute_dtype": dtype, "seed": seed, "steps": summary["steps"]} | scores


def table(rows: list[dict]) -> str:
    """Returns mean and range over the seeds."""
    lines = [
        "| compute dtype | top-1, mean | lowest | highest | seeds |",
        "| --- |" + " ---: |" * 4,
    ]
    for dtype in DTYPES:
        scores = [row["top1"] for row in rows if row["compute_dtype"] == dtype]
        lines.append(
            f"| {dtype} | {sum(scores) / len(scores):.2%} | {min(scores):.2%} "
            f"| {max(scores):.2%} | {len(scores)} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
