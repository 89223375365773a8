"""Measures the accuracy of weights or of a run, by the protocols of the VGG paper.

    python -m vgg_jax.evaluate --weights=vgg16.safetensors --folder=DIR
    python -m vgg_jax.evaluate --weights=FILE --folder=DIR --protocol=dense --scales=256,384,512
    python -m vgg_jax.evaluate --weights=FILE --weights=FILE --folder=DIR --protocol=both
    python -m vgg_jax.evaluate --workdir=runs/vgg16-digits
    python -m vgg_jax.evaluate --weights=net.safetensors --config=configs/vgg16.py:cifar10

DIR has class folders, named by class or by ImageNet's wnid. Several --weights or --workdir are an
ensemble: their probabilities are averaged. Protocols: center, dense, multicrop, both
(vgg_jax.evaluation.protocols). Scales are the shortest side in pixels; the probabilities of several
are averaged; the first network's own resize where none is given. --json=OUT writes accuracies as
fractions.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_jax.cli import CommandParser, parse_scales, quick_imports, run_command, show_progress
from vgg_jax.config import load_config, split_overrides
from vgg_jax.errors import UserError

if TYPE_CHECKING:
    from vgg_jax.data.source import Source


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax.evaluate", __doc__)
    parser.add_argument(
        "--weights", action="append", default=[], help="file or hf:// address; repeatable"
    )
    parser.add_argument("--workdir", action="append", default=[], help="run; repeatable")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--folder", type=Path, help="class folders of images")
    data.add_argument("--config", help="config file whose evaluation data is used")
    parser.add_argument("--protocol", default="center", help="center, dense, multicrop or both")
    parser.add_argument("--scales", type=parse_scales, help="such as 256,384,512")
    parser.add_argument("--batch_size", type=int, default=32, help="images per batch; default 32")
    parser.add_argument("--per_class", action="store_true", help="one line per class")
    parser.add_argument("--confusions", action="store_true", help="the most frequent mistakes")
    parser.add_argument("--json", type=Path, metavar="OUT", help="file to write the result to")
    overrides, others = split_overrides(argv)
    args = parser.parse_args(others)
    if not args.weights and not args.workdir:
        raise UserError("nothing to evaluate: give --weights=FILE or --workdir=DIR")
    if overrides and args.config is None:
        raise UserError(f"{overrides[0]} changes a config: give --config=FILE too")
    if args.batch_size < 1:
        raise UserError(f"--batch_size={args.batch_size} must be at least 1")

    report = _measure(args, overrides)
    from vgg_jax.evaluation.accuracy import report_lines
    from vgg_jax.runs.directory import write_report

    for line in report_lines(report):
        print(line)
    if args.json is not None:
        write_report(args.json, report)
    return 0


def _measure(args: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    # Imported late: --help and a mistyped argument answer at once.
    with quick_imports():
        from vgg_jax.evaluation.accuracy import measure_accuracy
        from vgg_jax.runs.record import environment
        from vgg_jax.training.export_run import load_run
        from vgg_jax.weights.loading import load_weights
        from vgg_jax.xla import enable_compilation_cache

    enable_compilation_cache()
    runs = [load_run(Path(workdir)) for workdir in args.workdir]
    nets = [*map(load_weights, args.weights), *(weights for weights, _, _ in runs)]
    if args.folder is not None or args.config is not None:
        source, dataset = _open_data(args, overrides)
    elif runs:
        _, source, dataset = runs[0]
    else:
        raise UserError("which images? Give --folder=DIR with class folders, or --config=FILE")
    started = time.perf_counter()
    report = measure_accuracy(
        nets,
        source,
        dataset=dataset,
        protocol=args.protocol,
        scales=args.scales,
        batch_size=args.batch_size,
        with_classes=args.per_class,
        with_confusions=args.confusions,
        progress=lambda indices: show_progress(indices, "image"),
    )
    return {
        **report,
        "weights": [*args.weights, *args.workdir],
        "seconds": time.perf_counter() - started,
        **environment(),
    }


def _open_data(args: argparse.Namespace, overrides: list[str]) -> "tuple[Source, str]":
    from vgg_jax.data.folder import open_folder
    from vgg_jax.data.sources import data_name, open_source

    if args.folder is not None:
        return open_folder(str(args.folder), "", ()), str(args.folder)
    data = load_config(args.config, overrides).data
    return open_source(data, data.eval_split), f"{data_name(data)} {data.eval_split}".rstrip()


if __name__ == "__main__":
    run_command(main)
