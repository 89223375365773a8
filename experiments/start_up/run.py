"""Measures the time from a training command to its first step, first and second start.

    python -m experiments.start_up.run [--out=DIR]

A first start has nothing compiled; the second finds what the first one kept. Each is a process of
its own; three rounds. Writes start_up.json, table.md and record.json.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.runs.directory import write_json
from vgg_jax.runs.record import Record

ROUNDS = 3
COMMON = ["--config.steps=1"]
RUNS = {
    "VGG-16, digits at 32 pixels, batch 32": ["--config=configs/vgg16.py:digits"],
    "VGG-16, ImageNet's recipe at 224 pixels, batch 8": [
        "--config=configs/vgg16.py",
        "--config.data.source=folder",
        "--config.data.batch_size=8",
        "--config.data.workers=2",
        "--config.eval.batch_size=8",
    ],
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("experiments.start_up.run", __doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out, "experiments.start_up.run", argv)
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"first": [], "second": []} for name in RUNS
    }
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        write_photos(photos)
        for turn in range(ROUNDS):
            for name, arguments in RUNS.items():
                place = [f"--config.data.dir={photos}"] if len(arguments) > 1 else []
                cache = Path(scratch) / f"cache-{turn}-{len(place)}"
                for which in ("first", "second"):
                    workdir = cache / which
                    took = seconds_to_first_step([*arguments, *place], workdir, cache)
                    seconds[name][which].append(took)
                    print(f"{name}, {which} start: {took:.1f} s", flush=True)
    write_json(out / "start_up.json", seconds)
    (out / "table.md").write_text(table(seconds))
    record.write()
    return 0


def seconds_to_first_step(arguments: list[str], workdir: Path, cache: Path) -> float:
    """Runs one step of training; returns the seconds from the command to the end of that step."""
    subprocess.run(
        [sys.executable, "-m", "vgg_jax.train", *arguments, *COMMON, f"--workdir={workdir}"],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache / "xla")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return json.loads((workdir / "summary.json").read_text())["seconds_to_first_step"]


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


def table(seconds: dict[str, dict[str, list[float]]]) -> str:
    """Returns the medians and ranges as Markdown."""
    lines = ["| command | first start [s] | second start [s] |", "| --- | --- | --- |"]
    for name, starts in seconds.items():
        cells = [
            f"{statistics.median(took):.1f} ({min(took):.1f} to {max(took):.1f})"
            for took in starts.values()
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_command(main)
