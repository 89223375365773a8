"""How alike gradients are at two inputs: Balduzzi et al.'s laws and closed forms, beside ours."""

from collections.abc import Iterator

from experiments.scoreboard.ours import ROOT
from experiments.scoreboard.rows import Measured, Row
from experiments.shattered_gradients.cells import DENSE, KINDS, LINE, Cell
from experiments.shattered_gradients.report import TABLE, predicted, read
from vgg_jax.probes.coherence import half_gates_law

FILE = f"experiments/shattered_gradients/results/full/{TABLE}"
GATES = 13  # behind which dense networks are compared
LAWS = {
    "plain": ("published", "2^-L"),
    "batch norm": ("published", "2^-L"),
    "residual": ("as commonly stated", "(3/4)^L"),
    "residual + batch norm": ("published", "1 / (beta sqrt(L))"),
}
ALIKE = "the law takes half of the active gates as common; inputs grow alike and share more"
VARIANCE = "the law takes 1 for the variance a branch adds; batch norm leaves 1 - 1/pi"


def shattered_rows() -> Iterator[Row]:
    """Yields a row per cell for the closed form, and per kind of net for the published law."""
    for cell, found in read(ROOT / FILE).items():
        if cell.inputs == LINE or cell.pooling != "none":
            continue
        depth = GATES if cell.net == DENSE else max(found)
        if depth not in found:
            continue
        net = f"{cell.kind}, width {cell.width}, beta {cell.beta}"
        if cell.net != DENSE:
            net = f"VGG {cell.net}, {cell.kind}, {cell.pixels} pixels"
        quantity = f"correlation of dL/dx behind {depth} gates, inputs {cell.inputs}: {net}"
        ours = Measured.mean(found[depth], FILE)
        yield Row(
            quantity,
            "theory",
            "probes/coherence.py: gradient_correlation",
            float(predicted(cell, depth)[-1]),
            "10%",
            "after",
            ours,
            _reason(cell),
        )
        if cell.net == DENSE and cell.inputs == "0" and cell.beta == "1":
            kind, law = LAWS[cell.kind]
            yield Row(
                f"{quantity}, against {law}",
                kind,
                "Balduzzi et al. 2017",
                float(half_gates_law(depth, beta=float(cell.beta), **KINDS[cell.kind])),
                "10%",
                "after",
                ours,
                VARIANCE if cell.kind == "residual + batch norm" else ALIKE,
            )


def _reason(cell: Cell) -> str:
    if cell.net != DENSE and cell.kind == "batch norm":
        return "zero padding: windows over a border share a mean that batch norm leaves in"
    return "finite width: the excess grows with depth and shrinks with width"
