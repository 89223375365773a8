"""The cells that each preset measures."""

import dataclasses
import itertools
from typing import Any

LINE = "line"
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "batch norm": {"norm": "batch"},
    "residual": {"residual": True},
    "residual + batch norm": {"norm": "batch", "residual": True},
}
DENSE = "dense"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A network at one kind of inputs, measured for every seed.

    Attributes:
      net: "dense", or a variant of VGG.
      kind: of `KINDS`.
      inputs: correlation of two inputs, such as "0.5", or "line".
      width: units of a dense layer; of VGG the multiplier of its channels.
      pooling: of VGG.
      beta: factor of the branch beside a shortcut, in dense networks.
      pixels: side of VGG's images.
    """

    net: str
    kind: str
    inputs: str
    width: str = "512"
    pooling: str = "none"
    beta: str = "1"
    pixels: str = "32"


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is measured, and how often.

    Attributes:
      cells: dense networks and VGG.
      depths: gates behind which the gradients of dense networks are taken.
      line_depths: the same along the line.
      seeds: of dense networks, pairs and lines.
      vgg_seeds: of VGG.
    """

    cells: tuple[Cell, ...]
    depths: tuple[int, ...]
    line_depths: tuple[int, ...]
    seeds: int
    vgg_seeds: int


def full_cells() -> tuple[Cell, ...]:
    """Returns the cells that answer the questions of the README."""
    half = "0.5"  # channels of VGG
    pairs = ("0", "0.5", "0.8")
    return (
        *(Cell(DENSE, *both) for both in itertools.product(KINDS, ("0", "0.5", "0.8", "0.95"))),
        *(Cell(DENSE, kind, LINE) for kind in KINDS),
        *(Cell(DENSE, "residual + batch norm", "0", beta=beta) for beta in ("0.5", "0.2")),
        *(Cell(DENSE, "plain", "0.5", width) for width in ("128", "256", "1024")),
        *(
            Cell(net, kind, inputs, half)
            for net, kind, inputs in itertools.product("ADE", ("plain", "batch norm"), pairs)
        ),
        *(Cell("A", "batch norm", inputs, half, pixels="64") for inputs in ("0", "0.5")),
        *(Cell("D", kind, LINE, half) for kind in ("plain", "batch norm")),
        *(
            Cell("D", kind, inputs, half, "max")
            for kind, inputs in itertools.product(("plain", "batch norm"), pairs)
        ),
    )


PRESETS = {
    "quick": Preset(
        (
            *(Cell(DENSE, kind, "0.5", "256") for kind in KINDS),
            *(Cell(DENSE, kind, LINE, "256") for kind in KINDS),
            *(Cell("A", kind, "0.5", "0.125") for kind in ("plain", "batch norm")),
        ),
        (1, 4, 8, 13),
        (1, 13, 24),
        5,
        3,
    ),
    "full": Preset(full_cells(), (1, 2, 4, 8, 12, 13, 18, 26, 50), (1, 4, 13, 24, 50), 12, 10),
}
