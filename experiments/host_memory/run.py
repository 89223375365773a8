"""Measures a step on a CPU with the C library's allocator as it is, and keeping freed memory.

    python -m experiments.host_memory.run [--out=DIR]

Each measurement is a process of its own, the two settings in turn, three rounds. Writes
host_memory.json, table.md and record.json.
"""

import multiprocessing
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from experiments.throughput.contestants import Workload, this_project
from vgg_jax.cli import CommandParser, run_command
from vgg_jax.host_memory import keep_freed_memory
from vgg_jax.reporting.record import Record
from vgg_jax.training.workdir import write_json

ROUNDS = 3
STEPS = 3
SETTINGS = ("default", "kept")
WORKLOADS = [("train", 32, 128), ("train", 224, 8), ("infer", 32, 128), ("infer", 224, 8)]


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("experiments.host_memory.run", __doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out, "experiments.host_memory.run", argv)
    rows = []
    # A process for each task: the setting holds for the life of a process.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for mode, size, batch in WORKLOADS:
            rates: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
            for _ in range(ROUNDS):
                for setting in SETTINGS:
                    task = processes.submit(images_per_second, mode, size, batch, setting)
                    rates[setting].append(task.result())
            rows.append({"mode": mode, "image_size": size, "batch_size": batch} | rates)
            print(line(rows[-1]), flush=True)
    write_json(out / "host_memory.json", rows)
    head = ["workload", "default, images/s", "kept, images/s", "kept over default"]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *map(line, rows)]
    (out / "table.md").write_text("\n".join(lines) + "\n")
    record.write()
    return 0


def images_per_second(mode: str, size: int, batch: int, setting: str) -> float:
    """Returns the median rate of VGG-16's steps after the first; run in a fresh process."""
    if setting == "kept":
        keep_freed_memory()
    contestant = this_project(Workload("D", "none", size, batch, "float32"), mode)
    contestant.run()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        contestant.run()
        seconds.append(time.perf_counter() - start)
    return batch / statistics.median(seconds)


def line(row: dict) -> str:
    """A line of the table: medians and ranges over processes."""
    rates = [row[setting] for setting in SETTINGS]
    cells = [f"{statistics.median(r):.4g} ({min(r):.4g} to {max(r):.4g})" for r in rates]
    ratio = statistics.median(rates[1]) / statistics.median(rates[0])
    workload = f"{row['mode']} {row['image_size']}, batch {row['batch_size']}"
    return f"| {' | '.join([workload, *cells, f'{ratio:.2f}'])} |"


if __name__ == "__main__":
    run_command(main)
