"""Does faults to real training runs and counts what they survive.

    python -m experiments.fault_injection.run [--preset=quick|full] [--out=DIR]
    python -m experiments.fault_injection.run --redraw [--out=DIR]

A small net trains on digits with a checkpoint every 4 steps. Each fault is done to a start of the
run; the next start must resume from the newest intact checkpoint, and the finished parameters and
metrics must be those of a run that nothing happened to, to the last bit. quick: 22 faults; full:
606. The same command resumes. Writes faults.csv, table.md and record.json; `--redraw` only writes
the table again.
"""

import csv
import dataclasses
import itertools
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from experiments.fault_injection.faults import FAULTS, NOTHING, Fault
from experiments.fault_injection.victim import (
    PHOTOS,
    STEPS,
    Victim,
    checkpoints,
    read_lines,
    write_photos,
)
from vgg_jax.cli import run_command
from vgg_jax.distributed import EXIT_LOST_PROCESS
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import markdown
from vgg_jax.training.export_run import load_run
from vgg_jax.weights.store import read_safetensors, save_weights

PRESETS = ("quick", "full")
SPEEDS = ("train/images_per_second",)
MOST_LINES = 3  # of an error
# More from a process that lost another: JAX's coordination service may speak before it does.
SERVICE_LINES = 6


@dataclasses.dataclass
class Row:
    """What a fault did.

    Attributes:
      fault: its kind.
      moment: when it came, or what was damaged.
      status: exit statuses of the processes.
      promised: the statuses are as promised and nothing else than a short message was printed.
      resumed: the next start resumed from the newest intact checkpoint.
      identical: the run ended with the parameters and metrics of an undisturbed one.
    """

    fault: str
    moment: str
    status: str
    promised: bool
    resumed: bool = False
    identical: bool = False


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=PRESETS)
    arguments = parser.parse_args(argv)
    path = arguments.out / "faults.csv"
    if not arguments.redraw:
        arguments.out.mkdir(parents=True, exist_ok=True)
        record = Record(arguments.out, parser.module, argv)
        groups: dict[tuple[int, bool], list[Fault]] = {}
        for fault in FAULTS:
            groups.setdefault((fault.processes, fault.photos), []).append(fault)
        try:
            for faults in groups.values():
                inject(faults, PRESETS.index(arguments.preset), path)
        finally:  # Ctrl-C leaves what was done so far
            record.write()
            (arguments.out / "table.md").write_text(table(read_rows(path)))
    (arguments.out / "table.md").write_text(table(read_rows(stored(path))))
    return 0


def inject(faults: list[Fault], preset: int, path: Path) -> None:
    """Does the faults that `path` does not have yet, run after run, and appends their rows."""
    processes, photos = faults[0].processes, faults[0].photos
    with tempfile.TemporaryDirectory() as scratch:
        reference = None
        for number in itertools.count():
            done = Counter(row["fault"] for row in read_rows(path))
            left = [(fault, fault.tries[preset] - done[fault.name]) for fault in faults]
            todo = [fault for fault, count in left for _ in range(count)]
            if not todo:
                return
            if reference is None:
                write_photos(Path(scratch) / PHOTOS)
                Victim(Path(scratch) / "undisturbed", processes, photos=photos).end()
                reference = outcome(Path(scratch) / "undisturbed")
            workdir = Path(scratch) / str(number) / "run"
            write_photos(workdir.parent / PHOTOS)
            rows = disturbed_run(workdir, todo, random.Random(f"{number} {done.total()}"))
            identical = outcome(workdir) == reference
            for row in rows:
                row.identical = identical
            append_rows(path, rows)
            shutil.rmtree(workdir.parent)
            print(f"{done.total() + len(rows)} faults, {len(todo)} left", flush=True)


def disturbed_run(workdir: Path, todo: list[Fault], rng: random.Random) -> list[Row]:
    """Starts a run until it is finished, with faults to each start.

    One while the run is at rest and, if the process gets to train, one to the process.
    """
    rows: list[Row] = []
    unproven: list[Row] = []  # until a start shows from which step it resumes
    unread: set[int] = set()  # from where, after damage that a start died too early to notice
    expected = {0}
    processes, photos = todo[0].processes, todo[0].photos
    while True:
        at_rest, striking = NOTHING, NOTHING
        saved = checkpoints(workdir)
        if len(saved) > 1 and saved[-1] < STEPS:
            at_rest = _choose(rng, [fault for fault in todo if fault.before])
        if at_rest.statuses == (0,):
            striking = _choose(rng, [fault for fault in todo if fault.during])
        rest_moment, moment = "", ""
        if at_rest.before is not None:
            rest_moment, steps = at_rest.before(workdir, rng)
            expected = min((unread or steps, steps), key=max)
        victim = Victim(workdir, processes, photos=photos)
        if striking.during is not None:
            moment = striking.during(victim, rng)
        elif at_rest.before is not None:
            victim.wait_for_new_step()
            victim.signal(signal.SIGTERM)
        elif any(fault.before for fault in todo):  # those left need a run with two checkpoints
            victim.wait_for_checkpoints(2)
            victim.signal(signal.SIGTERM)
        ends = victim.end()
        for fault in (at_rest, striking):
            if fault.after is not None:
                fault.after(workdir)
        output, warnings = ends[0][1], int(at_rest is not NOTHING)
        finished = f"finished after step {STEPS}" in output
        ending = at_rest if striking is NOTHING else striking
        # A strike may come too late to end it: then its status is of no account.
        promised = said_little(ends, warnings) and (finished or kept_promise(ending, ends))
        if not promised:
            print(f"not as promised: {ending.name}\n{ends}", file=sys.stderr, flush=True)
        if at_rest is not NOTHING:
            rows.append(Row(at_rest.name, rest_moment, _statuses(ends), promised))
            unproven.append(rows[-1])
            todo.remove(at_rest)
        if "run directory" in output or finished:
            found = re.search(r"resuming after step (\d+)", output)
            for row in unproven:
                row.resumed = finished or int(found[1] if found else 0) in expected
            unproven, unread = [], set()
        elif at_rest is not NOTHING:
            unread = expected
        if striking is not NOTHING and not finished:  # else it came too late
            rows.append(Row(striking.name, moment, _statuses(ends), promised))
            unproven.append(rows[-1])
            todo.remove(striking)
        if finished:
            return rows
        expected = unread or {max(checkpoints(workdir), default=0)}


def _choose(rng: random.Random, faults: list[Fault]) -> Fault:
    return rng.choice(faults) if faults else NOTHING


def kept_promise(fault: Fault, ends: list[tuple[int, str, str]]) -> bool:
    """Returns whether the processes ended as promised: (status, output, error output) of each."""
    return all(status in fault.statuses for status, _, _ in ends)


def said_little(ends: list[tuple[int, str, str]], warnings: int) -> bool:
    """Returns whether processes that ended by themselves wrote a few lines, and no traceback.

    Args:
      ends: exit status, output and error output of each.
      warnings: lines that what was done before may add.
    """
    for status, _, errors in ends:
        lines = MOST_LINES + warnings + (SERVICE_LINES if status == EXIT_LOST_PROCESS else 0)
        if status >= 0 and ("Traceback" in errors or len(errors.splitlines()) > lines):
            return False
    return True


def outcome(workdir: Path) -> tuple[dict[str, bytes], list[dict[str, float]]]:
    """Returns what must not depend on what happened: the final arrays, and the metrics."""
    destination = workdir.with_name(f"{workdir.name}.safetensors")
    weights, _, _ = load_run(workdir)
    save_weights(destination, weights)
    tensors, _ = read_safetensors(destination)
    lines = [
        {name: value for name, value in line.items() if name not in SPEEDS}
        for line in read_lines(workdir)
    ]
    return {name: tensor.tobytes() for name, tensor in tensors.items()}, lines


def read_rows(path: Path) -> list[dict[str, str]]:
    """Returns the stored rows."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, rows: list[Row]) -> None:
    """Appends rows, with a heading in a new file."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(field.name for field in dataclasses.fields(Row))
        writer.writerows(dataclasses.astuple(row) for row in rows)


def table(rows: list[dict[str, str]]) -> str:
    """Returns the counts of each kind of fault as Markdown."""
    lines = []
    for name in [*dict.fromkeys(row["fault"] for row in rows), None]:
        these = [row for row in rows if name in (None, row["fault"])]
        inside = Counter(row["moment"] for row in these)
        counts = [
            sum(row[column] == "True" for row in these)
            for column in ("promised", "resumed", "identical")
        ]
        lost = sum("False" in (row["resumed"], row["identical"]) for row in these)
        saves = f"{inside['in a save']} / {inside['in an evaluation']}"
        lines.append([name or "all", len(these), saves, *counts, lost])
    head = ["fault", "tried", "in a save / evaluation"]
    head += ["ended as promised", "resumed", "identical end", "lost"]
    return markdown(head, lines, "lrrrrrr")


def _statuses(ends: list[tuple[int, str, str]]) -> str:
    return " ".join(str(status) for status, _, _ in ends)


if __name__ == "__main__":
    run_command(main)
