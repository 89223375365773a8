"""A training run that faults are done to: its processes, and what they leave on the disk."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

STEPS, EVAL, SAVE = 240, 12, 4
NET = [
    "--config=configs/vgg16.py:digits",
    "--config.data.image_size=8",
    "--config.model.stages=('3-4','3-8')",
    "--config.model.head=linear",
    "--config.data.batch_size=16",
    f"--config.steps={STEPS}",
    f"--config.eval.every_steps={EVAL}",
    f"--config.checkpoint.every_steps={SAVE}",
    "--config.log.every_steps=1",
    "--config.log.stuck_after_steps=0",
]
PATIENCE = 300  # seconds for anything
PHOTOS = "photos"  # a folder beside the run directories, for the kinds of fault that are of data
FROM_FOLDER = [
    "--config.data.source=folder",
    "--config.data.eval_split=train",
    "--config.data.augment=scale_crop",
    "--config.data.scale=(8,12)",
    "--config.data.eval_resize=8",
]


class Victim:
    """The processes of one start of a run.

    Attributes:
      workdir: the run directory.
      photos: the folder of images that it trains on, or None for digits.
      processes: one, or two over loopback.
    """

    def __init__(self, workdir: Path, processes: int = 1, *, photos: bool = False) -> None:
        """Starts them."""
        self.workdir = workdir
        self.photos = workdir.parent / PHOTOS if photos else None
        self._joined: list[str] = []
        if processes > 1:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                port = free.getsockname()[1]
            self._joined = [f"--coordinator=localhost:{port}", f"--processes={processes}"]
        self._before = last_step(workdir)
        self.processes = [
            subprocess.Popen(
                self.command(index),
                env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for index in range(processes)
        ]

    def command(self, index: int | None = None) -> list[str]:
        """Returns the command of one of the processes, or None for one that is alone."""
        several = self._joined and index is not None
        joined = [*self._joined, f"--process_id={index}"] if several else []
        data = [] if self.photos is None else [*FROM_FOLDER, f"--config.data.dir={self.photos}"]
        module = [sys.executable, "-m", "vgg_jax.train"]
        return [*module, *NET, *data, f"--workdir={self.workdir}", *joined]

    def wait_for_new_step(self) -> None:
        """Returns when it has made a step past all before, or has ended."""
        self._wait(lambda: last_step(self.workdir) > self._before, f"no step after {self._before}")

    def wait_for_checkpoints(self, count: int) -> None:
        """Returns when it has so many complete checkpoints, or has ended."""
        self._wait(lambda: len(checkpoints(self.workdir)) >= count, f"not {count} checkpoints")

    def _wait(self, condition: Callable[[], bool], failure: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.alive() and not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{failure} in {self.workdir}")
            time.sleep(0.01)

    def signal(self, number: signal.Signals, only: int | None = None) -> None:
        """Sends a signal to all processes that live, or to one."""
        for index, process in enumerate(self.processes):
            if only in (None, index) and process.poll() is None:
                process.send_signal(number)

    def alive(self) -> bool:
        """Says whether all processes live."""
        return all(process.poll() is None for process in self.processes)

    def moment(self) -> str:
        """Says in what a process that was just killed was."""
        for process in self.processes:
            if process.poll() is None:
                continue
            process.wait()
        folder = self.workdir / "checkpoints"
        if folder.exists() and any("tmp" in path.name for path in folder.iterdir()):
            return "in a save"
        lines = read_lines(self.workdir)
        if lines and lines[-1]["step"] % EVAL == 0 and "eval/top1" not in lines[-1]:
            return "in an evaluation"
        return "in training"

    def end(self) -> list[tuple[int, str, str]]:
        """Waits; returns exit status, output and error output of each process."""
        texts = [process.communicate(timeout=PATIENCE) for process in self.processes]
        return [(p.returncode, *text) for p, text in zip(self.processes, texts, strict=True)]


def write_photos(folder: Path) -> None:
    """Writes 64 small images of noise in two class folders."""
    rng = np.random.default_rng(0)
    for index in range(64):
        path = folder / "train" / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (16, 20, 3), dtype=np.uint8))


def read_lines(workdir: Path) -> list[dict[str, float]]:
    """Returns the lines of metrics that can be read."""
    lines = []
    path = workdir / "metrics.jsonl"
    for text in path.read_bytes().split(b"\n")[:-1] if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def last_step(workdir: Path) -> int:
    """Returns the step of the last line of metrics, or 0."""
    return int(max((line["step"] for line in read_lines(workdir)), default=0))


def checkpoints(workdir: Path) -> list[int]:
    """Returns the steps of the complete checkpoints, oldest first."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    return sorted(int(name) for name in names if name.isdecimal())
