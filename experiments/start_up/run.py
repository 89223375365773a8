"""Measures the time from a training command to the end of its first step, for two starts.

    python -m experiments.start_up.run [--preset=quick|full] [--out=DIR]
    python -m experiments.start_up.run --redraw [--out=DIR]

The first start compiles its programs, the second one finds them in the compilation cache. Each
start is a process of its own. quick: a narrow net, once; full: two networks, three times. Writes
start_up.json, table.md and record.json. `--redraw` only writes the table again.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from vgg_jax.cli import run_command
from vgg_jax.json_files import write_json
from vgg_jax.runs.directory import SUMMARY_FILE
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import markdown

ROUNDS = {"quick": 1, "full": 3}
COMMON = ["--config.steps=1"]
RUNS = {
    "quick": {
        "VGG-11, 1/16 of the width, digits at 32 pixels, batch 32": [
            "--config=configs/vgg11.py:digits",
            "--config.model.width=0.0625",
        ]
    },
    "full": {
        "VGG-16, digits at 32 pixels, batch 32": ["--config=configs/vgg16.py:digits"],
        "VGG-16, ImageNet's recipe at 224 pixels, batch 8": [
            "--config=configs/vgg16.py",
            "--config.data.source=folder",
            "--config.data.batch_size=8",
            "--config.data.workers=2",
            "--config.eval.batch_size=8",
        ],
    },
}
Seconds = dict[str, dict[str, list[float]]]


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*RUNS], default_preset="full")
    arguments = parser.parse_args(argv)
    out = arguments.out
    path = out / "start_up.json"
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        write_json(path, measure(RUNS[arguments.preset], ROUNDS[arguments.preset]))
        record.write()
    (out / "table.md").write_text(table(json.loads(stored(path).read_text())))
    return 0


def measure(runs: dict[str, list[str]], rounds: int) -> Seconds:
    """Starts every run twice per round; returns {run: {start: seconds of each round}}."""
    seconds: Seconds = {name: {"first": [], "second": []} for name in runs}
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        write_photos(photos)
        for turn, (number, (name, arguments)) in itertools.product(
            range(rounds), enumerate(runs.items())
        ):
            from_folder = "--config.data.source=folder" in arguments
            place = [f"--config.data.dir={photos}"] if from_folder else []
            cache = Path(scratch) / f"cache-{turn}-{number}"
            for which in ("first", "second"):
                workdir = cache / which
                took = seconds_to_first_step([*arguments, *place], workdir, cache)
                seconds[name][which].append(took)
                print(f"{name}, {which} start: {took:.1f} s", flush=True)
    return seconds


def seconds_to_first_step(arguments: list[str], workdir: Path, cache: Path) -> float:
    """Runs one step of training; returns the seconds from the command to the end of that step."""
    subprocess.run(
        [sys.executable, "-m", "vgg_jax.train", *arguments, *COMMON, f"--workdir={workdir}"],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache / "xla")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return json.loads((workdir / SUMMARY_FILE).read_text())["seconds_to_first_step"]


def write_photos(root: Path) -> None:
    """Writes noise as photos of 300x400 pixels in two class folders of two splits."""
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        for name in ("a", "b"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(4):
                pixels = rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{index}.jpg"), pixels)


def table(seconds: Seconds) -> str:
    """Returns the medians and ranges as Markdown."""
    lines = []
    for name, starts in seconds.items():
        cells = [
            f"{statistics.median(took):.1f} ({min(took):.1f} to {max(took):.1f})"
            for took in starts.values()
        ]
        lines.append([name, *cells])
    return markdown(["command", "first start [s]", "second start [s]"], lines)


if __name__ == "__main__":
    run_command(main)
