"""Where the sharpness of the loss settles, beside curvature."""

from collections.abc import Iterator

from experiments.curvature.figures import settled
from experiments.scoreboard.ours import ROOT
from experiments.scoreboard.rows import Measured, Row
from vgg_jax.runs.tables import read_table

FILE = "experiments/curvature/results/quick/edge.csv.gz"


def curve_rows() -> Iterator[Row]:
    """Yields a row per optimiser and norm."""
    table = read_table(ROOT / FILE)
    names = ("net", "norm", "threshold", "optimizer")
    for cell in dict.fromkeys(zip(*(table[name].tolist() for name in names), strict=True)):
        net, norm, _, optimizer = cell
        yield Row(
            f"sharpness where training settles, over the limit of a quadratic function: "
            f"{optimizer}, net {net}, norm {norm}",
            "theory",
            "Cohen et al. 2021",
            1.0,
            "5%",
            "after",
            Measured.mean(settled(table, **dict(zip(names, cell, strict=True))), FILE),
            "the images are learnt before the sharpness, thrown down by the first steps, is back",
        )
