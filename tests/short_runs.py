"""Starts training by its command line, in processes of their own, and reads what they leave."""

import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from vgg_jax.training.sinks import Event

ROOT = Path(__file__).parent.parent
STEPS = 24
# A net of three layers on 8-pixel digits: all of the machinery in seconds.
TINY = [
    "--config=configs/vgg16.py:digits",
    "--config.data.image_size=8",
    "--config.model.stages=('3-4','3-8')",
    "--config.model.head=linear",
    "--config.data.batch_size=16",
    f"--config.steps={STEPS}",
    "--config.eval.every_steps=12",
    "--config.checkpoint.every_steps=4",
    "--config.log.every_steps=4",
]


def start(*arguments: str, program: str = "vgg_jax.train", **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", program, *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def arrays(workdir: Path, step: int = STEPS) -> dict[str, np.ndarray]:
    path = workdir.resolve() / "checkpoints" / str(step) / "state"
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored)
        return flatten(
            checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        )


def flatten(tree: object, prefix: str = "") -> dict[str, np.ndarray]:
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    else:
        return {} if tree is None else {prefix: np.asarray(tree)}
    return {k: v for name, leaf in items for k, v in flatten(leaf, f"{prefix}/{name}").items()}


def metrics(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    path = workdir / "metrics.jsonl"

    def reached() -> bool:
        return path.exists() and any(line["step"] >= step for line in complete_lines(path))

    _wait_until(reached, process)


def wait_for_checkpoint(workdir: Path, step: int, process: subprocess.Popen) -> None:
    """Waits until one is whole: a step that is told may still be on its way to the disk."""
    _wait_until(lambda: any(saved >= step for saved in checkpoints(workdir)), process)


def _wait_until(reached: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None and not reached():
        time.sleep(0.02)


def checkpoints(workdir: Path) -> list[int]:
    """Returns the steps of those that are whole."""
    return [int(path.name) for path in workdir.glob("checkpoints/*") if path.name.isdecimal()]


def complete_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]]


def shown_by_tensorboard(folder: Path) -> list[tuple[int, str, float]]:
    """Returns (step, name, value) of every scalar, less those that a later start hides."""
    shown = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while len(content) >= 12:  # length, its checksum, event, its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.HasField("session_log"):
                shown = [each for each in shown if each[0] < event.step]
            shown += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
    return shown
