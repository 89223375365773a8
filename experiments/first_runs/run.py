"""Runs the first commands of the README and stores their results.

    python -m experiments.first_runs.run digits [--out=DIR]
    python -m experiments.first_runs.run cifar10 --data_dir=DIR
    python -m experiments.first_runs.run photos --data_dir=DIR
    python -m experiments.first_runs.run --redraw

Each of the first three runs one training command in an empty folder and stores its `summary.json`,
`metrics.jsonl` and the command itself in OUT/NAME. `--redraw` (or the word `table` for a name) only
writes the table and the figure again, from the stored runs.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vgg_jax.cli import run_command
from vgg_jax.errors import UserError
from vgg_jax.json_files import write_json
from vgg_jax.reporting.plots import figure
from vgg_jax.runs.directory import METRICS_FILE, SUMMARY_FILE
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import machine
from vgg_jax.runs.tables import markdown

RUNS = {
    "digits": ["--config=configs/vgg16.py:digits"],
    "cifar10": [
        "--config=configs/vgg11.py:cifar10,bn",
        "--config.model.width=0.25",
        "--config.model.dropout=0.0",
        "--config.epochs=8.0",
        "--config.optimizer.schedule=cosine",
    ],
    "photos": [
        "--config=configs/vgg16.py",
        "--config.data.source=folder",
        "--config.data.train_split=",
        "--config.data.eval_split=",
        "--config.data.name=photos",
        "--config.data.batch_size=8",
        "--config.data.workers=2",
        "--config.eval.batch_size=8",
        "--config.steps=6",
        "--config.log.every_steps=1",
        "--config.optimizer.schedule=constant",
    ],
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, redraw_word=("name", "table"))
    parser.add_argument("name", nargs="?", choices=[*RUNS, "table"], help="the command to run")
    parser.add_argument("--data_dir", help="folder of the data set, for cifar10 and photos")
    arguments = parser.parse_args(argv)
    if not arguments.redraw:
        if arguments.name is None:
            raise UserError(f"give the run to make, one of {', '.join(RUNS)}, or --redraw")
        train(arguments.name, arguments.data_dir, arguments.out / arguments.name)
    write_table(stored(arguments.out))
    return 0


def train(name: str, data_dir: str | None, out: Path) -> None:
    """Runs one training command with an empty compilation cache and stores what it wrote."""
    if name != "digits" and data_dir is None:
        raise UserError(f"{name} needs --data_dir=DIR")
    arguments = ["-m", "vgg_jax.train", *RUNS[name]]
    place = [f"--config.data.dir={data_dir}"] if data_dir else []
    with tempfile.TemporaryDirectory() as scratch:
        workdir = Path(scratch) / "run"
        subprocess.run(
            [sys.executable, *arguments, *place, f"--workdir={workdir}"],
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{scratch}/cache"},
            check=True,
        )
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(workdir / METRICS_FILE, out)
        summary = json.loads((workdir / SUMMARY_FILE).read_text())
    # Without the folders of this machine.
    command = ["python", *arguments, *(["--config.data.dir=DIR"] if place else [])]
    summary["command"] = shlex.join(command)
    write_json(out / SUMMARY_FILE, summary)
    write_json(out / "machine.json", machine())


def write_table(out: Path) -> None:
    """Writes table.md and learning_curves.png from the runs stored under `out`."""
    lines = []
    names = [name for name in RUNS if (out / name / SUMMARY_FILE).exists()]
    with figure(out / "learning_curves") as drawing:
        loss_axes, accuracy_axes = drawing.subplots(1, 2)
        for name in names:
            summary = json.loads((out / name / SUMMARY_FILE).read_text())
            metrics = summary["metrics"]
            protocol = summary["protocol"]
            lines.append(
                [
                    name,
                    f"{metrics['eval/top1']:.2%}",
                    f"{metrics['eval/examples']:,} "
                    f"({protocol['split'] or 'the training images'}, {protocol['crop']})",
                    f"{summary['seconds_to_first_step']:.1f} s",
                    f"{summary['wall_seconds']:.0f} s",
                    f"{summary['images_per_second']:.1f}",
                ]
            )
            rows = (out / name / METRICS_FILE).read_text().splitlines()
            curve = [json.loads(row) for row in rows]
            for axes, key in ((loss_axes, "train/loss"), (accuracy_axes, "eval/top1")):
                points = [(r["step"] / summary["steps"], r[key]) for r in curve if key in r]
                axes.plot(*zip(*points, strict=True), marker=".", label=name)
        loss_axes.set(xlabel="share of the run", ylabel="training loss [nats]", yscale="log")
        accuracy_axes.set(xlabel="share of the run", ylabel="top-1 accuracy", ylim=(0, 1))
        loss_axes.legend()
    head = ["run", "top-1", "examples", "first step", "whole run", "images/s"]
    (out / "table.md").write_text(markdown(head, lines))


if __name__ == "__main__":
    run_command(main)
