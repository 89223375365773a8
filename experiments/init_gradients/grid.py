"""The cells that each preset measures, the most important ones first."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

NETS = ("A", "B", "C", "D", "E", "plain-22", "plain-34", "plain-50")
INITS = (
    "he_fan_in",
    "paper",
    "orthogonal",
    "he_fan_out",
    "glorot_normal",
    "lecun",
    "paper_variance",
    "lsuv",
)
NORMS = ("none", "batch")
ACTIVATIONS = ("relu", "tanh", "sigmoid")
POOLINGS = ("none", "max", "average")
NOISE = "noise"  # independent standard normal pixels
WIDE_DATA = "noise-2px"
WIDE_INPUTS = "noise-2px-512ch"
IMAGE_SIZES = {NOISE: 32, "noise-224px": 224, WIDE_DATA: 2, WIDE_INPUTS: 2}  # of real images: 32
IMAGE_CHANNELS = {WIDE_INPUTS: 512}  # of all others: 3
# Twenty 1x1 convolutions of 512 channels on 2x2 images of noise: every position of every image is
# an independent sample, as the theory of batch norm assumes: four samples per image.
# With three input channels many samples point nearly the same way; with 512 none do.
WIDE = "wide-20"
WIDE_STAGES = {
    WIDE: ("1-512 x20",),
    "wide-20-128": ("1-128 x20",),
    "wide-20-2048": ("1-2048 x20",),
}
WIDE_BATCH_SIZES = {  # the widest: at the ends of the others' range alone
    WIDE: (2, 4, 8, 16, 64, 256),
    "wide-20-128": (4, 16, 64, 256),
    "wide-20-2048": (16, 256),
}
QUANTITIES = (
    "activation_grad_rms",
    "weight_grad_norm",
    "param_norm",
    "preactivation_rms",
    "preactivation_mean",
    "saturation_fraction",
    "dead_fraction",
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One network on one kind of image: measured for every seed, stored as one file."""

    net: str
    init: str
    norm: str
    activation: str
    pooling: str
    data: str
    batch_size: int

    @property
    def name(self) -> str:
        return "_".join(map(str, dataclasses.astuple(self)))


def quick_cells(real: str) -> list[Cell]:
    """Two nets, three initialisers, with and without batch norm: a minute or two."""
    del real  # noise only
    return _grid(("A", "B"), NORMS, ("he_fan_in", "paper", "orthogonal"), (NOISE,))


def full_cells(real: str) -> list[Cell]:
    """What answers the questions of the README: an hour or two of a CPU.

    Without norm and with ReLU, initialisers that differ in their variance alone give the same
    network up to a factor per layer, and with batch norm the same network: so beside He's and the
    paper's the others are measured once, on net D.

    Args:
      real: name of the real images.
    """
    off, on = NORMS[:1], NORMS[1:]
    he, first = INITS[:1], INITS[:2]
    noise, images, both = (NOISE,), (real,), (NOISE, real)
    pooled = POOLINGS[1:]
    cells = [
        *_wide(WIDE),
        *_wide("wide-20-128"),
        # Images, pooling, batch norm, on the paper's net D.
        *_grid(("D",), off, first, both),
        *_grid(("D",), on, first, both),
        *_grid(("D",), NORMS, he, both, poolings=pooled),
        # Activations and initialisers.
        *_grid(("D",), off, ("glorot_normal", "paper", "orthogonal"), noise, ACTIVATIONS[1:]),
        *_grid(("D",), off, INITS, noise),
        *_grid(("D",), off, ("orthogonal", "lsuv"), images),
        # Depth.
        *_grid(("A", "B", "C", "E"), off, first, noise),
        *_grid(("A", "B", "C", "E"), on, he, noise),
        *_grid(NETS[5:], NORMS, first, noise),
        *_wide("wide-20-2048"),
        *(Cell(WIDE, "he_fan_in", "batch", "relu", "none", WIDE_INPUTS, n) for n in (16, 64, 256)),
        *(
            Cell(WIDE, "he_fan_in", "batch", activation, "none", data, 64)
            for activation in ACTIVATIONS[1:]
            for data in (WIDE_DATA, WIDE_INPUTS)
        ),
        *(Cell(net, "paper", "none", "relu", "none", "noise-224px", 2) for net in "CD"),
        # The nets as the paper has them, on images.
        *_grid(("A", "B", "C", "E"), NORMS, he, images, poolings=("max",)),
        *_grid(("D",), on, ("orthogonal", "lsuv"), noise),
        *_grid(("D",), on, ("glorot_normal",), noise, ACTIVATIONS[1:]),
        *_grid(("D",), off, ("lsuv",), noise, ACTIVATIONS[1:]),
    ]
    return list(dict.fromkeys(cells))


def every_cell(real: str) -> list[Cell]:
    """The whole cross."""
    return _grid(NETS, NORMS, INITS, (NOISE, real), ACTIVATIONS, POOLINGS)


@dataclasses.dataclass(frozen=True)
class Preset:
    """The cells and quantities that a run of the experiment measures.

    Attributes:
      cells: of the name of the real images.
      seeds: of every cell.
      quantities: kept of each layer, names of `vgg_jax.probes.gradients.layer_statistics`.
    """

    cells: Callable[[str], list[Cell]]
    seeds: range
    quantities: tuple[str, ...] = QUANTITIES


PRESETS = {
    "quick": Preset(quick_cells, range(3)),
    "full": Preset(full_cells, range(10)),
    # One quantity: all seven would be a table of 20 MB, and the gradients of the kernels, which are
    # not computed then, two fifths of the time.
    "everything": Preset(every_cell, range(10), QUANTITIES[:1]),
}


def _wide(net: str) -> list[Cell]:
    sizes = WIDE_BATCH_SIZES[net]
    return [Cell(net, "he_fan_in", "batch", "relu", "none", WIDE_DATA, size) for size in sizes]


def _grid(
    nets: Iterable[str],
    norms: Iterable[str],
    inits: Iterable[str],
    data: Iterable[str],
    activations: Sequence[str] = ACTIVATIONS[:1],
    poolings: Sequence[str] = POOLINGS[:1],
) -> list[Cell]:
    # Neighbouring cells share their weights (net, norm, init) or their program (all but init).
    return [
        Cell(net, init, norm, activation, pooling, source, batch_size=16)
        for net, norm, init, activation, pooling, source in itertools.product(
            nets, norms, inits, activations, poolings, data
        )
    ]


def real_images(data_dir: str | None) -> str:
    """Returns the name of the real images."""
    return "digits" if data_dir is None else "cifar10"
