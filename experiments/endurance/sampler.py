"""Trains as `python -m vgg_jax.train` does, while a thread samples this process.

    python -m experiments.endurance.sampler SAMPLES.csv SECONDS [options of vgg_jax.train]

Appends a line every SECONDS: resident memory, memory in use and held free by malloc, open files,
threads, and the last logged step. Needs Linux and glibc, whose `mallinfo2` tells the two apart.
"""

import csv
import ctypes
import json
import sys
import threading
import time
from pathlib import Path

from vgg_jax import train
from vgg_jax.runs.directory import METRICS_FILE

COLUMNS = ("step", "seconds", "memory_mb", "used_mb", "free_mb", "files", "threads")
MEGABYTE = 2**20
TAIL = 4096  # bytes of the metrics that are read, so that a sample costs the same all along


class _MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def main(argv: list[str]) -> int:
    """Trains and samples; returns the exit status of the training."""
    path, seconds, *arguments = argv
    workdir = next(
        Path(argument.split("=", 1)[1])
        for argument in arguments
        if argument.startswith("--workdir=")
    )
    metrics = workdir / METRICS_FILE
    threading.Thread(
        target=_sample, args=(Path(path), float(seconds), metrics), daemon=True
    ).start()
    return train.main(arguments)


def _sample(path: Path, pause: float, metrics: Path) -> None:
    mallinfo = ctypes.CDLL("libc.so.6").mallinfo2
    mallinfo.restype = _MallInfo
    started = time.perf_counter()
    own = Path("/proc/self")
    with path.open("w", newline="", buffering=1) as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        while True:
            time.sleep(pause)
            step = _last_step(metrics)
            if step is None:
                continue
            status = dict(
                line.split(":", 1)
                for line in (own / "status").read_text().splitlines()
                if ":" in line
            )
            info = mallinfo()
            writer.writerow(
                [
                    step,
                    time.perf_counter() - started,
                    int(status["VmRSS"].split()[0]) / 1024,
                    (info.uordblks + info.hblkhd) / MEGABYTE,
                    info.fordblks / MEGABYTE,
                    len(list((own / "fd").iterdir())),
                    int(status["Threads"]),
                ]
            )


def _last_step(metrics: Path) -> int | None:
    """Returns the step of the last whole line; None if there is none yet."""
    if not metrics.exists():
        return None
    with metrics.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        lines = file.read().split(b"\n")[:-1]
    return json.loads(lines[-1])["step"] if lines else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
