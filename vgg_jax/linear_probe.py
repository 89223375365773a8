r"""Measures a linear classifier on a network's features, as the paper's appendix B does.

    python -m vgg_jax.linear_probe --weights=vgg19.safetensors --train=DIR --test=DIR
    python -m vgg_jax.linear_probe --weights=FILE --train=DIR --test=DIR --scales=256,384,512
    python -m vgg_jax.linear_probe --weights=FILE --config=configs/vgg16.py:cifar10 \
        --endpoint=relu5_4 --scales=64 --images_per_class=10

Each DIR has class folders, the same ones; --config takes the data of a config file instead. An
image is described by the 4096 values of the penultimate layer, averaged over the whole image and
its mirror image, stacked over --scales (shortest side in pixels; by default the network's own) and
divided by their L2 norm; a linear SVM is trained on that. Nothing of the network is changed. With
--endpoint of a convolutional stage images may be as small as 32 pixels.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_jax.cli import CommandParser, parse_scales, quick_imports, run_command, show_progress
from vgg_jax.config import load_config, split_overrides
from vgg_jax.errors import UserError

if TYPE_CHECKING:
    from vgg_jax.data.source import Source


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax.linear_probe", __doc__)
    parser.add_argument("--weights", required=True, help="weights file or hf://owner/name")
    parser.add_argument("--train", type=Path, help="class folders of training images")
    parser.add_argument("--test", type=Path, help="class folders of test images")
    parser.add_argument("--config", help="config file whose data is used")
    parser.add_argument("--endpoint", default="relu7", help="features to use; default relu7")
    parser.add_argument("--scales", type=parse_scales, help="such as 256,384,512")
    parser.add_argument(
        "--images_per_class", type=int, help="number of training images per class; default all"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of that choice; default 0")
    parser.add_argument("--batch_size", type=int, default=16, help="images per batch; default 16")
    parser.add_argument("--json", type=Path, metavar="OUT", help="file to write the result to")
    overrides, others = split_overrides(argv)
    args = parser.parse_args(others)
    folders = args.train is not None and args.test is not None
    if folders == (args.config is not None):
        raise UserError("which images? Give --train=DIR and --test=DIR, or --config=FILE")
    if args.batch_size < 1:
        raise UserError(f"--batch_size={args.batch_size} must be at least 1")

    report = _measure(args, overrides)
    low, high = report["top1_interval"]
    print(
        f"{report['train_examples']:,} training images, {report['examples']:,} test images of "
        f"{report['classes']} classes; {report['endpoint']} at scales "
        f"{','.join(map(str, report['scales']))}, {report['values']:,} values an image\n"
        f"accuracy {report['top1']:.2%} (95%: {low:.2%} to {high:.2%}), "
        f"{report['top1_correct']:,} right; mean over classes {report['class_recall']:.2%}"
    )
    if args.json is not None:
        from vgg_jax.runs.directory import write_report

        write_report(args.json, report)
    return 0


def _measure(args: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    # Imported late: --help and a mistyped argument answer at once.
    with quick_imports():
        from vgg_jax.features.linear_probe import classify_linearly, few_a_class, image_descriptors
        from vgg_jax.runs.record import environment
        from vgg_jax.weights.loading import load_weights
        from vgg_jax.xla import enable_compilation_cache

    enable_compilation_cache()
    train, test = _open_data(args, overrides)
    if train.class_names != test.class_names:
        raise UserError(
            f"{args.train} and {args.test} have different classes, {len(train.class_names)} and "
            f"{len(test.class_names)}: the same class folders are wanted in both"
        )
    if args.images_per_class is not None:
        train = few_a_class(train, args.images_per_class, args.seed)
    weights = load_weights(args.weights)
    settings: dict[str, Any] = {
        "endpoint": args.endpoint,
        "scales": args.scales or (weights.preprocessing.resize,),
    }
    described = [
        image_descriptors(
            weights,
            source,
            **settings,
            batch_size=args.batch_size,
            progress=lambda indices: show_progress(indices, "image"),
        )
        for source in (train, test)
    ]
    (features, labels), (test_features, test_labels) = described
    scores = classify_linearly(features, labels, test_features, test_labels)
    return {
        **scores,
        **settings,
        "values": features.shape[1],
        "weights": args.weights,
        "seed": args.seed,
        **environment(),
    }


def _open_data(args: argparse.Namespace, overrides: list[str]) -> "tuple[Source, Source]":
    from vgg_jax.data.folder import open_folder
    from vgg_jax.data.sources import open_source

    if args.config is None:
        return open_folder(str(args.train), "", ()), open_folder(str(args.test), "", ())
    data = load_config(args.config, overrides).data
    return open_source(data, data.train_split), open_source(data, data.eval_split)


if __name__ == "__main__":
    run_command(main)
