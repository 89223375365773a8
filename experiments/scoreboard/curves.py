"""Where the sharpness of the loss settles, beside curvature."""

from collections.abc import Iterator

from experiments.curvature.figures import FEW, settled
from experiments.scoreboard.ours import ROOT
from experiments.scoreboard.rows import Measured, Row
from vgg_jax.runs.tables import read_table

FILES = [f"experiments/curvature/results/{preset}/edge.csv.gz" for preset in ("quick", "full")]
REASONS = {
    "gradient descent": "the sharpness is still above the limit while the loss falls; not examined",
    "heavy ball": "the images are learnt before the sharpness, thrown down by the first steps, is "
    "back",
}


def curve_rows() -> Iterator[Row]:
    """Yields a row per net, norm and optimiser of which there are seeds enough."""
    names = ("net", "norm", "threshold", "optimizer")
    for file in FILES:
        table = read_table(ROOT / file)
        for cell in dict.fromkeys(zip(*(table[name].tolist() for name in names), strict=True)):
            net, norm, _, optimizer = cell
            found = settled(table, **dict(zip(names, cell, strict=True)))
            if len(found) >= FEW:
                yield Row(
                    f"sharpness where training settles, over the limit of a quadratic function: "
                    f"{optimizer}, net {net}, norm {norm}",
                    "theory",
                    "Cohen et al. 2021",
                    1.0,
                    "5%",
                    "after",
                    Measured.mean(found, file),
                    REASONS.get(optimizer, ""),
                )
