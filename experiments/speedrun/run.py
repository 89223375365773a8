"""Times a training run from the first parameter to the test accuracy, with and without compilation.

    python -m experiments.speedrun.run [--config=configs/speedrun.py] [--config.KEY=VALUE ...]
    python -m experiments.speedrun.run --redraw [--out=DIR]

Trains twice in one process: the first run compiles its programs, the second one reuses them. The
data is opened and copied to the device before the clock starts. The test images are scored as they
are and, as in the published records, averaged with their mirror images. OUT/table.md has both
beside the records; before the first run its cells are empty. `--redraw` only writes the table
again.
"""

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vgg_jax.cli import run_command
from vgg_jax.config import load_config
from vgg_jax.data.augment import make_eval_transform
from vgg_jax.errors import UserError
from vgg_jax.evaluation.scoring import accuracies
from vgg_jax.json_files import write_json
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import record
from vgg_jax.runs.tables import markdown
from vgg_jax.training.setup import Run, build, first_state
from vgg_jax.training.steps import EvalStep, make_eval_step

HERE = Path(__file__).parent
TIMINGS_FILE = "timings.json"
TIMINGS = ("with compilation", "without compilation")
SCORINGS = {"plain": False, "mirrored": True}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__)
    parser.add_argument("--config", default="configs/speedrun.py")
    arguments, overrides = parser.parse_known_args(argv)
    if arguments.redraw:
        parser.parse_args(argv)  # a change of the config has no effect here: refuse it
        print(write_table(stored(arguments.out)))
        return 0
    config = load_config(arguments.config, overrides)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_table(arguments.out)
    run = build(config)
    if config.parallel.steps_per_dispatch == 1:
        raise UserError("set --config.parallel.steps_per_dispatch above 1: that is what is timed")
    transform = make_eval_transform(config.data)
    eval_steps = {
        name: jax.jit(make_eval_step(run.model, transform, mirrored=mirrored))
        for name, mirrored in SCORINGS.items()
    }
    timings = {name: timed_run(run, config, eval_steps) for name in TIMINGS}
    settings = json.loads(config.to_json_best_effort())
    described = record(parser.module, argv) | {"config": settings}
    write_json(arguments.out / TIMINGS_FILE, timings | described)
    print(write_table(arguments.out))
    return 0


def write_table(out: Path) -> str:
    """Writes table.md, the stored timings beside the published records, and returns it."""
    header = ["who", "net", "accuracy", "seconds", "hardware"]
    path = out / TIMINGS_FILE
    timings = json.loads(path.read_text()) if path.exists() else {}
    lines = []
    for name in TIMINGS:
        cells = ["-"] * 4
        if timings:
            config, devices, timing = timings["config"], timings["devices"], timings[name]
            plain, mirrored = (timing[name] for name in SCORINGS)
            cells = [
                f"{config['model']['variant']}, norm {config['model']['norm']}",
                f"{plain['top1']:.2%}, with mirror images {mirrored['top1']:.2%}, "
                f"of {plain['examples']:,}, seed {config['seed']}",
                f"{timing['training_seconds']:.2f}, evaluation {plain['seconds']:.2f}, "
                f"with mirror images {mirrored['seconds']:.2f}",
                f"{devices['count']} x {devices['kind']}",
            ]
        lines.append([f"here, {name}", *cells])
    with (HERE / "published.csv").open(newline="") as file:
        lines += [[row[column] for column in header] for row in csv.DictReader(file)]
    text = markdown(header, lines)
    (out / "table.md").write_text(text)
    return text


def timed_run(run: Run, config: ConfigDict, eval_steps: Mapping[str, EvalStep]) -> dict[str, Any]:
    """Trains from new parameters and evaluates in several ways; returns seconds and accuracies."""
    started = time.perf_counter()
    state = first_state(run, config)
    for _, inputs in run.feed(0, run.total_steps):
        state, _ = run.advance(state, inputs)
    jax.block_until_ready(state)
    timing: dict[str, Any] = {"training_seconds": time.perf_counter() - started}
    for name, eval_step in eval_steps.items():
        started = time.perf_counter()
        sums = [eval_step(state, run.parallel.put(batch)) for batch in run.eval_data]
        totals = {key: sum(float(s[key]) for s in sums) for key in sums[0]}
        scores = accuracies(totals, run.eval_data.num_examples)
        timing[name] = scores | {"seconds": time.perf_counter() - started}
    return timing


if __name__ == "__main__":
    run_command(main)
