r"""Runs a sweep file and writes a table with mean and spread over seeds.

    python -m vgg_jax.sweep --config=experiments/NAME/sweep.py
    python -m vgg_jax.sweep --config=experiments/NAME/sweep.py --launcher=ray --gpus_per_run=1
    python -m vgg_jax.sweep --config=experiments/NAME/sweep.py --dry_run > commands
    xargs -d '\n' -P 4 -I{} sh -c {} < commands

A sweep file is Python: its `get_runs()` yields (name, config, overrides), for example
("bn-seed1", "configs/vgg16.py:digits", {"model.norm": "batch", "seed": 1}). Each run is a training
command in a folder of its own. Finished runs are skipped and interrupted ones resumed, so the same
command again does what is left. With --time_limit=8m it ends within that time: it starts only runs
that fit, by what the finished ones took, and stops what does not.

Exit status: 0 all finished or the time is up, 1 some failed, 2 a mistake in what was typed, 130
stopped by Ctrl-C or SIGTERM after saving.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_jax.cli import EXIT_INTERRUPTED, CommandParser, quick_imports, run_command
from vgg_jax.errors import UserError

if TYPE_CHECKING:
    from vgg_jax.sweeping.trials import Trial

EXIT_SOME_FAILED = 1
_REFRESH_SECONDS = 1.0


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax.sweep", __doc__)
    parser.add_argument("--config", type=Path, required=True, help="sweep file")
    parser.add_argument(
        "--workdir", type=Path, help="folder of the runs and the table; default runs/NAME"
    )
    parser.add_argument("--retries", type=int, default=1, help="number of retries of a failed run")
    parser.add_argument(
        "--dry_run", action="store_true", help="print the remaining commands, one per line"
    )
    parser.add_argument("--time_limit", help="such as 90s, 8m or 1.5h, for --launcher=local")
    parser.add_argument("--launcher", choices=["local", "ray"], default="local")
    local = parser.add_argument_group("--launcher=local")
    local.add_argument(
        "--runs_at_once",
        type=int,
        help="default: one per --devices_per_run GPUs, one on a CPU or TPU; more runs share GPUs",
    )
    local.add_argument("--devices_per_run", type=int, default=1, help="GPUs for each run")
    ray = parser.add_argument_group("--launcher=ray")
    ray.add_argument("--ray_address", help='"auto" or HOST:PORT; default: a cluster of its own')
    ray.add_argument("--cpus_per_run", type=float, default=1.0)
    ray.add_argument("--gpus_per_run", type=float, default=0.0)
    arguments = parser.parse_args(argv)
    _check_positive(arguments)
    if arguments.time_limit is not None and arguments.launcher == "ray":
        raise UserError("--time_limit is for --launcher=local; on Ray limit the cluster's job")

    # Imported late: --help and a mistyped argument answer at once.
    with quick_imports():
        from vgg_jax.sweeping.execution import LEFT
        from vgg_jax.sweeping.table import format_rows, sweep_table, write_table
        from vgg_jax.sweeping.time_limit import parse_seconds
        from vgg_jax.sweeping.trials import load_trials
        from vgg_jax.training.config_check import check_config

    seconds = None if arguments.time_limit is None else parse_seconds(arguments.time_limit)
    folder = arguments.workdir or Path("runs") / _sweep_name(arguments.config)
    trials = load_trials(arguments.config, folder, check_config)
    left = [trial for trial in trials if not trial.finished()]
    if arguments.dry_run:
        for trial in left:
            print(trial.command())
        return 0
    print(f"{len(trials)} runs in {folder}, {len(trials) - len(left)} finished before")
    ended = _make_runs(arguments, trials, left, seconds) if left else {}

    rows = sweep_table(trials)
    write_table(rows, folder)
    _print_table(format_rows(rows))
    print(f"table: {folder / 'table.csv'} and .parquet")
    if "stopped" in ended.values():
        print("run the same command again to resume")
        return EXIT_INTERRUPTED
    later = [trial.name for trial in trials if ended.get(trial.name) == LEFT]
    if later:
        print(
            f"the time is up: {len(later)} of {len(trials)} runs are left, {', '.join(later[:8])}"
            f"{', ...' if len(later) > 8 else ''}; run the same command again to resume"
        )
    failed = [name for name, status in ended.items() if status == "failed"]
    for name in failed:
        print(f"failed: {name}, see {folder / name / 'log.txt'}", file=sys.stderr)
    return EXIT_SOME_FAILED if failed else 0


def _make_runs(
    arguments: argparse.Namespace,
    trials: Sequence["Trial"],
    left: Sequence["Trial"],
    seconds: float | None,
) -> dict[str, str]:
    """Makes the runs that are left, those that fit into a time; returns how each ended."""
    from rich.console import Console

    from vgg_jax.sweeping.display import Display
    from vgg_jax.sweeping.execution import LEFT, Outcome
    from vgg_jax.sweeping.launchers import Launcher, LocalLauncher, RayLauncher, device_slots
    from vgg_jax.sweeping.time_limit import TimeLimit
    from vgg_jax.training.preemption import StopRequest

    limit = None if seconds is None else TimeLimit(seconds, trials)
    launcher: Launcher
    if arguments.launcher == "ray":
        launcher = RayLauncher(
            arguments.ray_address, arguments.cpus_per_run, arguments.gpus_per_run
        )
    else:
        slots = device_slots(arguments.runs_at_once, arguments.devices_per_run)
        launcher = LocalLauncher(slots, limit.admits if limit else None)
    ended: dict[str, str] = {}
    try:
        with StopRequest() as stop, Display(trials, Console(stderr=True)) as display:
            for trial in trials:
                if trial not in left:
                    display.ended(trial, Outcome("finished", 0))
            launcher.start(left, arguments.retries)
            while len(ended) < len(left):
                for trial, outcome in launcher.poll(_REFRESH_SECONDS):
                    if outcome.status == "stopped" and stop.received is None:  # by the time limit
                        outcome = dataclasses.replace(outcome, status=LEFT)
                    ended[trial.name] = outcome.status
                    display.ended(trial, outcome)
                if stop.received is not None or (limit is not None and limit.is_over()):
                    launcher.stop()
                display.refresh()
    finally:
        launcher.stop()
    return ended


def _check_positive(arguments: argparse.Namespace) -> None:
    for name, least in (("retries", 0), ("runs_at_once", 1), ("devices_per_run", 1)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise UserError(f"--{name}={value} must be at least {least}")


def _print_table(lines: list[list[str]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


def _sweep_name(path: Path) -> str:
    """Returns "cifar_tables" for "experiments/cifar_tables/sweep.py"."""
    return path.resolve().parent.name if path.stem == "sweep" else path.stem


if __name__ == "__main__":
    run_command(main)
