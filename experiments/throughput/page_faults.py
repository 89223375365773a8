"""Times steps on a CPU with and without the page faults of memory that every step frees.

    python -m experiments.throughput.page_faults [--preset=smallest|full] [--out=DIR]
    python -m experiments.throughput.page_faults --redraw [--out=DIR]

Needs Linux with glibc. Every measurement is a process of its own, with glibc's defaults or with
`GLIBC_TUNABLES` of this module in its environment, in turn; this project, and PyTorch if it is
installed. Writes `page_faults.json`, `table.md` and `record.json` into the folder `page_faults`.
`--redraw` only writes the table again. `smallest` takes seconds and tests the code.
"""

import importlib.util
import itertools
import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from experiments.throughput.contestants import (
    Contestant,
    Workload,
    this_project,
    title,
    torch_eager,
)
from vgg_jax.cli import run_command
from vgg_jax.errors import UserError
from vgg_jax.json_files import read_json, write_json
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import markdown, markdown_line

# A compiled step asks for its temporaries as one block, which glibc takes from the system and gives
# back after the step. mmap_max and trim_threshold keep it in the process. One arena for all threads
# and no lists of small free pieces (tcache, mxfast) let a freed block become one piece again.
TUNABLES = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {
        "mmap_max": 0,
        "trim_threshold": 10**12,
        "arena_max": 1,
        "tcache_count": 0,
        "mxfast": 0,
    }.items()
)
VARIABLE = "GLIBC_TUNABLES"
ENVIRONMENTS: dict[str, dict[str, str]] = {"default": {}, "kept": {VARIABLE: TUNABLES}}
CONTESTANTS: dict[str, Callable[[Workload, str], Contestant]] = {"vgg_jax": this_project}
if importlib.util.find_spec("torch"):
    CONTESTANTS["PyTorch eager"] = torch_eager
PRESETS = {
    "smallest": [(Workload("A", "none", 32, 2, "float32"), "infer")],
    "full": [
        (Workload("D", "none", 224, 8, "float32"), "train"),
        (Workload("D", "batch", 32, 128, "float32"), "train"),
        (Workload("D", "none", 224, 8, "float32"), "infer"),
    ],
}
ROUNDS = {"smallest": 1, "full": 3}
STEPS = 5
WARM_UP = 4  # until then the kept memory grows
MEASURED = ("milliseconds", "faults", "peak_bytes")

Row = dict[str, Any]


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], default_preset="full")
    arguments = parser.parse_args(argv)
    out = arguments.out / "page_faults"
    path = out / "page_faults.json"
    if not arguments.redraw:
        if platform.libc_ver()[0] != "glibc":
            raise UserError("this system's C library is not glibc; run it on such a Linux")
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv, ("torch",))
        rows = [
            row
            for number in range(ROUNDS[arguments.preset])
            for row in measure_all(PRESETS[arguments.preset], number)
        ]
        write_json(path, rows)
        record.write()
    (out / "table.md").write_text(table(read_json(stored(path))))
    return 0


def measure_all(workloads: Sequence[tuple[Workload, str]], number: int) -> Iterator[Row]:
    """Measures every workload by all contestants in both environments; prints as it goes."""
    for (work, mode), contestant, name in itertools.product(workloads, CONTESTANTS, ENVIRONMENTS):
        size = f"{mode} {work.image_size}, batch {work.batch_size}"
        row = {
            "workload": f"{title(work.net, work.norm)}, {size}",
            "contestant": contestant,
            "environment": name,
            "round": number,
            **in_new_process(ENVIRONMENTS[name], measure, work, mode, contestant),
        }
        print(markdown_line(row.values()), flush=True)
        yield row


def measure(work: Workload, mode: str, contestant: str) -> Row:
    """Runs steps in this process.

    Returns:
      {"milliseconds" (median of a step), "faults" (mean of a step, all threads), "peak_bytes" (of
      the process, ever)}.
    """
    run = CONTESTANTS[contestant](work, mode).run
    for _ in range(WARM_UP):
        run()
    seconds = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(STEPS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "milliseconds": round(1e3 * statistics.median(seconds), 1),
        "faults": (usage.ru_minflt - before) // STEPS,
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def in_new_process(variables: dict[str, str], function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process whose environment has these variables, and no other tunables.

    glibc reads them when a process starts.
    """
    before = dict(os.environ)
    os.environ.pop(VARIABLE, None)
    os.environ.update(variables)
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            return process.submit(function, *arguments).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def table(rows: list[Row]) -> str:
    """Returns medians of the rounds: both environments side by side, and their ratio."""
    cells: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        key = row["workload"], row["contestant"], row["environment"]
        cells.setdefault(key, []).append(row)
    medians = {
        key: {name: statistics.median(row[name] for row in found) for name in MEASURED}
        for key, found in cells.items()
    }
    lines = []
    for line in dict.fromkeys(key[:2] for key in medians):
        default, kept = (medians[*line, name] for name in ENVIRONMENTS)
        ratio = default["milliseconds"] / kept["milliseconds"]
        values = [f"{found['milliseconds']:,.0f}" for found in (default, kept)]
        values += [f"{ratio:.2f}"]
        values += [f"{found['faults']:,.0f}" for found in (default, kept)]
        values += [f"{found['peak_bytes'] / 1e9:.2f}" for found in (default, kept)]
        lines.append([*line, *values])
    head = ["workload", "who", "ms a step", "ms, kept", "times as fast", "faults a step"]
    head += ["faults, kept", "peak GB", "peak GB, kept"]
    return markdown(head, lines, "ll" + "r" * 7)


if __name__ == "__main__":
    run_command(main)
