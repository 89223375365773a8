"""Measures whether long runs stay as they are: memory, files, threads, time per step.

    python -m experiments.endurance.run [steps|sweep|photos] [--preset=quick|full] [--out=DIR]
    python -m experiments.endurance.run --redraw [--out=DIR]

steps: one training process, sampled twice a second. sweep: many short runs, killed and resumed ten
times. photos: an evaluation of many photos. quick: 2,000 steps, 6 runs, 1,000 photos; full: 100,000
steps, 200 runs, 50,000 photos. Writes steps.csv.gz, sweep.json, photos.json, table.md,
endurance.png and record.json. What is stored is not measured again.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from experiments.endurance.net import NET
from experiments.endurance.sampler import COLUMNS
from vgg_jax.cli import run_command
from vgg_jax.config import override_arguments
from vgg_jax.json_files import read_json, write_json
from vgg_jax.reporting.plots import figure
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.reader import StoredRun
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import markdown, read_table, write_table

# steps; runs and how often they are killed; photos.
PRESETS = {"quick": (2_000, 6, 2, 1_000), "full": (100_000, 200, 10, 50_000)}
FILES = {"steps": "steps.csv.gz", "sweep": "sweep.json", "photos": "photos.json"}
PARTS = tuple(FILES)
SAMPLE_SECONDS = 0.5


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS])
    parser.add_argument("part", nargs="?", choices=PARTS, help="default: all")
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        measure(arguments.preset, [arguments.part] if arguments.part else PARTS, out, parser, argv)
    if not any((out / name).exists() for name in FILES.values()):
        stored(out / FILES["steps"])
    if (out / FILES["steps"]).exists():
        draw(out / FILES["steps"], out / "endurance.png")
    (out / "table.md").write_text(tables(out))
    return 0


def measure(
    preset: str, parts: Sequence[str], out: Path, parser: ExperimentParser, argv: list[str]
) -> None:
    """Measures the parts that are not stored yet."""
    steps, runs, kills, photos = PRESETS[preset]
    missing = [part for part in parts if not (out / FILES[part]).exists()]
    if not missing:
        return
    out.mkdir(parents=True, exist_ok=True)
    record = Record(out, parser.module, argv)
    for part in missing:
        path = out / FILES[part]
        match part:
            case "steps":
                write_table(path, train(steps), COLUMNS)
            case "sweep":
                write_json(path, sweep(runs, kills))
            case "photos":
                write_json(path, evaluate((photos // 10, photos)))
    record.write()


def train(steps: int) -> list[dict[str, float]]:
    """Trains; returns samples of the process."""
    with tempfile.TemporaryDirectory() as scratch:
        samples = Path(scratch) / "samples.csv"
        options = override_arguments(NET | {"steps": steps})
        command = ["-m", "experiments.endurance.sampler", str(samples), str(SAMPLE_SECONDS)]
        options = ["--config=configs/vgg16.py:digits", *options, f"--workdir={scratch}/run"]
        subprocess.run([sys.executable, *command, *options], stdout=subprocess.DEVNULL, check=True)
        with samples.open(newline="") as file:
            return [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
            ]


def sweep(runs: int, kills: int) -> dict[str, Any]:
    """Starts a sweep, kills all of it `kills` times, and lets it end; returns what came of it."""
    rng = random.Random(0)
    environment = os.environ | {"ENDURANCE_RUNS": str(runs), "JAX_NUM_CPU_DEVICES": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "vgg_jax.sweep", "--config=experiments/endurance/sweep.py"]
        command = [sys.executable, *command, f"--workdir={folder}"]
        starts, done = 0, []
        while True:
            starts += 1
            with subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
            ) as process:
                if starts <= kills:
                    share = runs * starts / (kills + 1)  # spread over the sweep
                    while finished(folder) < share and process.poll() is None:
                        time.sleep(0.2)
                    time.sleep(rng.uniform(0, 3))
                    os.killpg(process.pid, signal.SIGKILL)
            done.append(finished(folder))
            if starts > kills:
                break
        found = [StoredRun(Path(folder) / f"seed{seed}") for seed in range(runs)]
        return {
            "runs": runs,
            "kills": kills,
            "finished_at_each_kill": done[:-1],
            "exit_status": process.returncode,
            "finished": finished(folder),
            "evaluated_once": sum(len(run.curve("eval/top1")) == 1 for run in found),
            "in_the_table": int(read_table(Path(folder) / "table.csv")["runs"].astype(int).sum()),
        }


def finished(folder: str) -> int:
    """Returns the number of runs of a sweep that have a summary."""
    return len(list(Path(folder).glob("*/summary.json")))


def evaluate(counts: tuple[int, ...]) -> list[dict[str, float]]:
    """Evaluates a net on growing numbers of photos; returns seconds and peak memory of each."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "net.safetensors"
        write_weights(weights)
        rng = np.random.default_rng(0)
        photos, made = Path(scratch) / "photos", 0
        for count in counts:
            for index in range(made, count):
                folder = photos / str(index % 10)
                folder.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                cv2.imwrite(str(folder / f"{index:06d}.jpg"), pixels)
            made = count
            started = time.perf_counter()
            report = Path(scratch) / "report.json"
            arguments = [f"--weights={weights}", f"--folder={photos}", f"--json={report}"]
            with subprocess.Popen(
                [sys.executable, "-m", "vgg_jax.evaluate", *arguments, "--batch_size=256"],
                stdout=subprocess.DEVNULL,
            ) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            rows.append(
                {
                    "photos": count,
                    "examples": read_json(report)["examples"],
                    "seconds": round(time.perf_counter() - started, 1),
                    "peak_memory_mb": round(usage.ru_maxrss / 1024),
                }
            )
    return rows


def write_weights(path: Path, side: int = 32) -> None:
    """Writes the net as it is drawn: what an evaluation takes does not depend on training."""
    import jax

    from vgg_jax.data.preprocessing import Preprocessing
    from vgg_jax.models import build_model
    from vgg_jax.weights.store import Weights, save_weights

    classes = tuple(map(str, range(10)))
    fields = {"stages": NET["model.stages"], "head": "linear", "num_classes": len(classes)}
    model = build_model(fields, image_size=side)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, side, side, 3), np.float32))
    preprocessing = Preprocessing(resize=side, crop=side, mean=(127.5,) * 3, std=(127.5,) * 3)
    save_weights(path, Weights(model, variables, preprocessing, classes))


def draw(path: Path, picture: Path) -> None:
    """Draws memory, files, threads and time per step along a run."""
    table = read_table(path)
    step = table["step"]
    with figure(picture, width=11, height=5) as drawing:
        panels = drawing.subplots(2, 3, sharex=True)
        for axes, (name, values) in zip(panels.flat, curves(table).items(), strict=True):
            axes.plot(step[-len(values) :], values)
            axes.set_ylabel(name)
            axes.set_ylim(bottom=0)
        for axes in panels[1]:
            axes.set_xlabel("step")


def curves(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns what is drawn, by its label; time per step over windows of a fortieth of the run."""
    steps, seconds = (np.asarray(table[name], float) for name in ("step", "seconds"))
    lag = max(1, len(steps) // 40)
    passed = np.maximum(steps[lag:] - steps[:-lag], 1)
    return {
        "resident memory [MB]": np.asarray(table["memory_mb"], float),
        "memory in use by malloc [MB]": np.asarray(table["used_mb"], float),
        "freed, kept by malloc [MB]": np.asarray(table["free_mb"], float),
        "open files": np.asarray(table["files"], float),
        "threads": np.asarray(table["threads"], float),
        "time per step [ms]": 1e3 * (seconds[lag:] - seconds[:-lag]) / passed,
    }


def tables(out: Path) -> str:
    """Returns the tables of what is stored as Markdown."""
    parts = []
    if (out / FILES["steps"]).exists():
        rows = []
        for name, values in curves(read_table(out / FILES["steps"])).items():
            quarters = [np.median(part) for part in np.array_split(values, 4)]
            rows.append([name, *(f"{value:.3g}" for value in quarters), f"{values.max():.3g}"])
        head = ["median of each quarter", "1st", "2nd", "3rd", "4th", "highest"]
        parts.append(markdown(head, rows, "lrrrrr"))
    if (out / FILES["sweep"]).exists():
        content = read_json(out / FILES["sweep"])
        rows = [[key.replace("_", " "), content[key]] for key in content]
        parts.append(markdown(["sweep", ""], rows))
    if (out / FILES["photos"]).exists():
        rows = [list(row.values()) for row in read_json(out / FILES["photos"])]
        parts.append(markdown(["photos", "scored", "seconds", "peak memory [MB]"], rows, "rrrr"))
    return "\n".join(parts)


if __name__ == "__main__":
    run_command(main)
