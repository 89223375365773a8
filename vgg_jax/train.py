"""Trains a network from a config file.

    python -m vgg_jax.train --config=vgg16:digits
    python -m vgg_jax.train --config=configs/vgg16.py --config.optimizer.learning_rate=0.02
    python -m vgg_jax.train --config=runs/vgg16-digits/config.json

Training uses all devices of this machine. To train over several processes, run the same command in
each: with --distributed under Slurm, mpirun or on a TPU pod, else with --coordinator, --processes
and --process_id. All of them must see the --workdir.

Run the same command again to resume. Exit status: 0 finished, or stopped by SIGTERM or SIGHUP after
saving; 2 bad input; 3 the loss became NaN or infinite; 4, or 134 (SIGABRT), another process was
lost; 5 the run directory can no longer be written; 130 stopped by Ctrl-C.
"""

import os
import sys
import time
from pathlib import Path

from vgg_jax.cli import EXIT_INTERRUPTED, CommandParser, quick_imports, run_command
from vgg_jax.config import load_config, split_overrides

EXIT_NON_FINITE = 3
EXIT_STORAGE = 5
_SCORES = {"eval/top1", "eval/top5", "eval/loss"}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    started = time.perf_counter()
    parser = CommandParser(
        "vgg_jax.train",
        __doc__,
        usage="%(prog)s --config=NAME[:ARGUMENTS] [--config.KEY=VALUE ...] [--workdir=DIR]",
    )
    parser.add_argument(
        "--config", required=True, help="such as vgg16:bn, a Python file, or a run's config.json"
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        help="run directory; default runs/NAME, after the config file and its arguments",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="join the other processes of this job, as its scheduler tells JAX",
    )
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0")
    parser.add_argument("--processes", type=int, metavar="N", help="number of processes")
    parser.add_argument(
        "--process_id", type=int, metavar="I", help="number of this process, from 0"
    )
    overrides, others = split_overrides(argv)
    arguments, unknown = parser.parse_known_args(others)
    config = load_config(arguments.config, [*overrides, *unknown])
    workdir = arguments.workdir or Path("runs") / _run_name(arguments.config)

    # Imported late: --help and a mistyped key answer at once.
    with quick_imports():
        import jax

        from vgg_jax import distributed
        from vgg_jax.runs.directory import SUMMARY_FILE, StorageError
        from vgg_jax.training.diagnosis import NonFiniteError
        from vgg_jax.training.loop import train
        from vgg_jax.xla import enable_compilation_cache, make_deterministic

    if config.get("deterministic"):
        make_deterministic()
    enable_compilation_cache()
    flags = (arguments.coordinator, arguments.processes, arguments.process_id)
    if arguments.distributed or any(flag is not None for flag in flags):
        distributed.join(*flags)
    try:
        summary = train(config, workdir, started)
    except NonFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_NON_FINITE
    except StorageError as error:
        print(
            f"error: {error}\nThe checkpoints on the disk are kept: make room, or bring "
            "the folder back, and run the same command again",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_STORAGE)  # threads that still try to write would hold an orderly exit up
    if jax.process_index() == 0:
        print(
            f"{summary['exit_reason']} after step {summary['steps']}; see {workdir / SUMMARY_FILE}"
        )
        if summary["exit_reason"] != "finished":
            print("run the same command again to resume")
        scores, protocol = summary.get("metrics", {}), summary.get("protocol", {})
        if summary["exit_reason"] == "finished" and scores.keys() >= _SCORES:
            scored = f"{protocol.get('dataset')} {protocol.get('split')}".rstrip()
            print(
                f"{scored} top-1 {scores['eval/top1']:.2%}, top-5 {scores['eval/top5']:.2%}, "
                f"loss {scores['eval/loss']:.4f}"
            )
    return EXIT_INTERRUPTED if summary["exit_reason"] == "SIGINT" else 0


def _run_name(spec: str) -> str:
    """Returns "vgg16-cifar10-bn" for "vgg16:cifar10,bn"; of files, the stem.

    For the config of a run, "NAME-again".
    """
    path, _, argument = spec.partition(":")
    if path.endswith(".json"):
        return f"{Path(spec).resolve().parent.name}-again"
    return "-".join(Path(word).stem for word in (path, *argument.split(",")) if word)


if __name__ == "__main__":
    run_command(main)
