"""Prints a network layer by layer: output shape, parameters, MACs, memory, receptive field.

python -m vgg_jax.summarize --variant=D [--image_size=224]
python -m vgg_jax.summarize --config=configs/vgg16.py:cifar10,bn [--config.model.width=0.5]
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.config import load_config, split_overrides
from vgg_jax.errors import UserError

if TYPE_CHECKING:
    from vgg_jax.models import VGG
    from vgg_jax.models.summary import Summary


def main(argv: list[str]) -> int:
    """Runs the command line and returns its exit status."""
    parser = CommandParser("vgg_jax.summarize", __doc__)
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--variant", help="a network of the paper by name, with its own head")
    network.add_argument("--config", help="a config file; --config.KEY=VALUE changes a key")
    parser.add_argument("--image_size", type=int, help="pixels, with --variant; 224 if not given")
    overrides, rest = split_overrides(argv)
    args, unknown = parser.parse_known_args(rest)
    others = [*overrides, *unknown]

    # Imported late: --help and completions answer at once.
    from vgg_jax.models import build_model
    from vgg_jax.models.variants import network_fields

    if args.variant is not None:
        if others:
            raise UserError(f"unknown argument {others[0]!r}; use --config to change the network")
        image_size = 224 if args.image_size is None else args.image_size
        model = build_model(network_fields(args.variant), image_size=image_size)
    else:
        if args.image_size is not None:
            raise UserError("with --config, type --config.data.image_size=SIZE")
        config = load_config(args.config, others)
        image_size = config.data.image_size
        model = build_model(config.model, image_size=image_size, compute_dtype=config.compute_dtype)
    for line in report(model, image_size):
        print(line)
    if args.config is not None and config.model.num_classes is None:
        print(f"As many classes as the data has; {model.num_classes:,} here.")
    return 0


def report(model: "VGG", image_size: int) -> Iterator[str]:
    """Yields the lines of the table and of the remarks under it."""
    from vgg_jax.models.summary import summarize_model

    summary = summarize_model(model, image_size)
    yield from _table(summary)
    yield ""
    yield from _shares(summary)
    yield from _stacking()


def _table(summary: "Summary") -> Iterator[str]:
    row = "{:<10}{:>18}{:>15}{:>17}{:>16}{:>17}".format
    yield row("layer", "output", "parameters", "MACs", "bytes", "receptive field")
    for layer in summary.layers:
        yield row(
            layer.name,
            " x ".join(map(str, layer.shape)),
            f"{layer.parameters:,}",
            f"{layer.macs:,}",
            f"{layer.activation_bytes:,}",
            f"{layer.receptive_field} x {layer.receptive_field}",
        )
    yield row(
        "total",
        "one image",
        f"{summary.parameters:,}",
        f"{summary.macs:,}",
        f"{summary.activation_bytes:,}",
        "",
    )


def _shares(summary: "Summary") -> Iterator[str]:
    first = next(layer for layer in summary.layers if layer.name.startswith("fc"))
    total, dense = summary.parameters, summary.fully_connected_parameters
    yield (
        f"{first.name} alone has {first.parameters:,} parameters, {first.parameters / total:.1%} "
        f"of all; the fully connected layers have {dense / total:.1%}."
    )
    yield (
        f"Forward, one image: {summary.macs / 1e9:.3f} GMAC; {summary.activations / 1e6:.3f} M "
        "outputs of convolutional and fully connected layers."
    )


def _stacking() -> Iterator[str]:
    """Section 2.3 of the paper: why small windows are stacked."""
    from vgg_jax.models.summary import receptive_field

    for number, word in ((2, "Two"), (3, "Three")):
        side = receptive_field([(3, 1)] * number)
        stacked, single = 9 * number, side**2
        yield (
            f"{word} 3x3 convolutions see {side}x{side}, like one {side}x{side}: {stacked} C^2 "
            f"weights against {single} C^2, {single / stacked - 1:.0%} more for the one."
        )


if __name__ == "__main__":
    run_command(main)
