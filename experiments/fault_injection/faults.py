"""Faults, each done to a real training process, and what it must do then."""

import dataclasses
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from experiments.fault_injection.victim import PHOTOS, Victim, checkpoints

LIMIT_BYTES = 6000  # of any file: less than a checkpoint's largest, more than what is there


@dataclasses.dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
      name: for the table.
      tries: how often it is done in the presets "quick" and "full".
      statuses: exit statuses that are promised.
      during: does it to a process that trains; returns the moment in words.
      before: does it to a run directory at rest; returns what was done and the steps that the run
        may resume from.
      after: takes it back, where nobody else can.
      processes: of the run.
      photos: whether the run trains on image files.
    """

    name: str
    tries: tuple[int, int]
    statuses: tuple[int, ...]
    during: Callable[[Victim, random.Random], str] | None = None
    before: Callable[[Path, random.Random], tuple[str, set[int]]] | None = None
    after: Callable[[Path], None] | None = None
    processes: int = 1
    photos: bool = False


def _signals(*numbers: signal.Signals) -> Callable[[Victim, random.Random], str]:
    def during(victim: Victim, rng: random.Random) -> str:
        victim.wait_for_new_step()
        time.sleep(rng.uniform(0, 1.0))
        for number in numbers:
            victim.signal(number)
            time.sleep(rng.choice([0, 0, 0.01]))
        return "in training"

    return during


def _kill(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    time.sleep(rng.uniform(0, 1.5))
    victim.signal(signal.SIGKILL)
    return victim.moment()


def _kill_early(victim: Victim, rng: random.Random) -> str:
    time.sleep(rng.uniform(0.5, 5))
    victim.signal(signal.SIGKILL)
    return "while it starts"


def _fill_disk(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    time.sleep(rng.uniform(0, 0.5))
    for process in victim.processes:
        if process.poll() is None:
            limits = (LIMIT_BYTES, LIMIT_BYTES)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    return "in training"


def _move_away(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    time.sleep(rng.uniform(0, 1.0))
    victim.workdir.rename(victim.workdir.with_name("away"))
    return "in training"


def _bring_back(workdir: Path) -> None:
    shutil.rmtree(workdir, ignore_errors=True)  # what a process that had not noticed made
    workdir.with_name("away").rename(workdir)


def _second_process(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    second = subprocess.run(victim.command(), capture_output=True, text=True, check=False)
    refused = second.returncode == 2 and "is in use by" in second.stderr
    done = second.returncode == 0  # the first one had finished by then
    victim.signal(signal.SIGTERM)
    return "refused" if refused else "after the end" if done else f"not refused: {second.stderr}"


def _flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _zeros(path: Path, rng: random.Random) -> None:  # left by some file systems at a power cut
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "bit flipped": _flip,
    "cut in half": lambda path, rng: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path, rng: os.truncate(path, 0),
    "zeros": _zeros,
    "deleted": lambda path, rng: path.unlink(),
}


def _damage(workdir: Path, rng: random.Random) -> tuple[str, set[int]]:
    *_, before, newest = checkpoints(workdir)
    folder = workdir / "checkpoints" / str(newest)
    path = rng.choice(sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size))
    name = rng.choice(sorted(DAMAGES))
    DAMAGES[name](path, rng)
    moment = f"{name}: {path.relative_to(folder).parts[-1][:24]}"
    if (folder.parent / f".seal-{newest}.json").exists():
        return moment, {before}
    # Killed between a save and its seal: the arrays decide, whatever became of other files.
    return moment, {before, newest}


def _damage_metrics(workdir: Path, rng: random.Random) -> tuple[str, set[int]]:
    with (workdir / "metrics.jsonl").open("ab") as file:
        file.write(bytes(rng.randrange(1, 5000)) + b'\n[1, 2]\n{"step": 1')
    return "zeros, another value and half a line at the end", {checkpoints(workdir)[-1]}


def _damage_config(workdir: Path, rng: random.Random) -> tuple[str, set[int]]:
    path = workdir / "config.json"
    shutil.copy(path, workdir.with_name("config.json"))
    content = rng.choice(["", "{", "null", "[]", '{"seed": 0}', "[" * 10_000])
    path.write_text(content)
    return f"{content[:12]!r}", {checkpoints(workdir)[-1]}


def _restore_config(workdir: Path) -> None:
    shutil.move(workdir.with_name("config.json"), workdir / "config.json")


def _damage_photo(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    assert victim.photos is not None
    path = rng.choice(sorted(victim.photos.rglob("*.png")))
    shutil.copy(path, victim.workdir.with_name("spare"))
    victim.workdir.with_name("spare of").write_text(str(path))
    os.truncate(path, rng.randrange(60))
    return "in training"


def _restore_photo(workdir: Path) -> None:
    shutil.move(workdir.with_name("spare"), workdir.with_name("spare of").read_text())


def _move_photos(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    time.sleep(rng.uniform(0, 1.0))
    assert victim.photos is not None
    victim.photos.rename(victim.photos.with_name("photos away"))
    return "in training"


def _photos_back(workdir: Path) -> None:
    workdir.with_name("photos away").rename(workdir.with_name(PHOTOS))


def _kill_one(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    time.sleep(rng.uniform(0, 1.0))
    victim.signal(signal.SIGKILL, only=rng.randrange(2))
    return victim.moment()


def _stop_one(victim: Victim, rng: random.Random) -> str:
    victim.wait_for_new_step()
    time.sleep(rng.uniform(0, 1.0))
    victim.signal(signal.SIGTERM, only=rng.randrange(2))
    return "in training"


NOTHING = Fault("nothing", (0, 0), (0,))
TERM, HUP, INT = signal.SIGTERM, signal.SIGHUP, signal.SIGINT
KILLED, ABORTED = -signal.SIGKILL, -signal.SIGABRT
ONE = (
    Fault(
        "image cut short", (1, 15), (2,), during=_damage_photo, after=_restore_photo, photos=True
    ),
    Fault("images moved away", (1, 15), (2,), during=_move_photos, after=_photos_back, photos=True),
    Fault("SIGKILL", (4, 150), (KILLED,), during=_kill),
    Fault("SIGKILL while it starts", (1, 20), (KILLED,), during=_kill_early),
    Fault("SIGTERM", (1, 30), (0,), during=_signals(TERM)),
    Fault("SIGHUP", (1, 30), (0,), during=_signals(HUP)),
    Fault("SIGTERM, SIGHUP, SIGTERM", (1, 20), (0,), during=_signals(TERM, HUP, TERM)),
    Fault("Ctrl-C", (1, 30), (130,), during=_signals(INT)),
    Fault("Ctrl-C twice", (1, 20), (130,), during=_signals(INT, INT)),
    Fault("disk full", (1, 20), (5,), during=_fill_disk),
    Fault("run directory moved away", (1, 20), (5,), during=_move_away, after=_bring_back),
    Fault("second process", (1, 10), (0,), during=_second_process),
    Fault("newest checkpoint damaged", (3, 100), (0,), before=_damage),
    Fault("metrics.jsonl damaged", (1, 10), (0,), before=_damage_metrics),
    Fault("config.json damaged", (1, 10), (2,), before=_damage_config, after=_restore_config),
)
# The same to both of two processes, which see different ends of it: who comes first tells the
# other, or is missed by it.
MISSED = (4, ABORTED)
BOTH = {
    "image cut short": MISSED,
    "images moved away": MISSED,
    "second process": (),
    "SIGKILL": (),
    "SIGKILL while it starts": (),
    "SIGHUP": (),
    "SIGTERM, SIGHUP, SIGTERM": (),
    "Ctrl-C": (),
    "Ctrl-C twice": MISSED,
    "disk full": MISSED,
    "run directory moved away": MISSED,
    "newest checkpoint damaged": (),
    "metrics.jsonl damaged": (),
    "config.json damaged": (),
}
FAULTS = (
    *ONE,
    # Up to a minute each, until the other process knows.
    Fault("SIGKILL to one of two", (1, 20), (KILLED, ABORTED, 4), during=_kill_one, processes=2),
    Fault("SIGTERM to one of two", (1, 20), (0,), during=_stop_one, processes=2),
    *(
        dataclasses.replace(
            fault,
            name=f"{fault.name}, both of two",
            tries=(0, 6),
            statuses=(*fault.statuses, *BOTH[fault.name]),
            processes=2,
        )
        for fault in ONE
        if fault.name in BOTH
    ),
)
