"""What is measured, in the order of its worth: the cells of each preset."""

import dataclasses
import itertools
from collections.abc import Iterable

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
IMAGE_SIZES = {NOISE: 32, "noise-224px": 224, "noise-2px": 2}  # of real images: 32
# Twenty 1x1 convolutions of 512 channels on 2x2 images of noise: every position of every image is
# an independent sample, which is what the theory of batch norm assumes.
WIDE, WIDE_STAGES, WIDE_DATA = "wide-20", ("1-512 x20",), "noise-2px"
WIDE_BATCH_SIZES = (2, 4, 8, 16, 64, 256)  # four samples each


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
    return [
        Cell(net, init, norm, "relu", "none", NOISE, 16)
        for net, norm, init in itertools.product(
            ("A", "B"), NORMS, ("he_fan_in", "paper", "orthogonal")
        )
    ]


def full_cells(real: str, batch_size: int = 16) -> list[Cell]:
    """The whole grid, and before its bulk the cells that settle the questions of the README.

    Args:
      real: name of the real images.
      batch_size: of the grid.
    """
    cells: list[Cell] = []

    def add(
        nets: Iterable[str],
        norms: Iterable[str],
        poolings: Iterable[str],
        inits: Iterable[str] = INITS,
        data: Iterable[str] = (NOISE, real),
        activations: Iterable[str] = ("relu",),
    ) -> None:
        # The network outermost: its program is compiled once.
        cells.extend(
            Cell(net, init, norm, activation, pooling, source, batch_size)
            for activation, net, pooling, norm, source, init in itertools.product(
                activations, nets, poolings, norms, data, inits
            )
        )

    plain, off, on, he, first = ("none",), ("none",), ("batch",), ("he_fan_in",), INITS[:2]
    noise = (NOISE,)
    cells.extend(
        Cell(WIDE, "he_fan_in", "batch", "relu", "none", WIDE_DATA, size)
        for size in WIDE_BATCH_SIZES
    )
    add(("D",), off, plain, ("he_fan_in", "paper", "he_fan_out", "glorot_normal"), noise)
    add(("C", "A", "E", "B"), off, plain, first, noise)
    add(("D",), on, plain, ("he_fan_in", "paper", "orthogonal"), noise)
    add(("D",), off, ("max",), he)
    add(("D",), on, ("max",), he)
    add(("D",), NORMS, plain, first, (real,))
    add(("A", "E", "plain-34"), on, plain, he, noise)
    cells.extend(Cell(net, "paper", "none", "relu", "none", "noise-224px", 2) for net in "CD")
    add(("D",), off, plain, INITS, noise)
    add(("D",), off, plain, ("he_fan_in", "glorot_normal"), noise, ("tanh", "sigmoid"))
    add(("D",), NORMS, ("average",), he, noise)
    add(("plain-22", "plain-50"), NORMS, plain, first, noise)
    add(("A", "B", "C", "D", "E"), NORMS, ("none", "max"))
    add(NETS[5:], NORMS, ("none", "max"))
    add(NETS, NORMS, POOLINGS, activations=ACTIVATIONS)
    return list(dict.fromkeys(cells))
