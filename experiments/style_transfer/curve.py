"""Compares a run's losses with those that the authors' notebook prints, in shape.

    python -m experiments.style_transfer.curve [--out=DIR]

Reads record.json of DIR and writes table.md beside it. The notebook (leongatys/
PytorchNeuralStyleTransfer, commit be6c8e2) paints another photo with the same painting, layers,
losses and weights, at 512 pixels from the photo, so the losses themselves cannot be compared. Its
iterations are evaluations of loss and gradient, and so are those of the table.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.errors import UserError
from vgg_jax.json_files import read_object
from vgg_jax.runs.record import RECORD_FILE
from vgg_jax.runs.tables import markdown

# By evaluation.
NOTEBOOK = {
    50: 1388532.5,
    100: 707860.75,
    150: 538045.44,
    200: 469374.88,
    250: 433804.63,
    300: 411657.56,
    350: 395248.25,
    400: 383885.31,
    450: 375128.75,
    500: 368493.78,
}
FIRST = 50


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("experiments.style_transfer.curve", __doc__)
    default = Path(__file__).parent / "results" / "astronaut_512"
    parser.add_argument("--out", type=Path, default=default, help="results/astronaut_512")
    out = parser.parse_args(argv).out
    record = out / RECORD_FILE
    losses = read_object(record).get("evaluated") if record.exists() else None
    if not losses:
        raise UserError(
            f"{out} has no losses: paint with experiments.style_transfer.run --out={out}"
        )
    (out / "table.md").write_text(compare(losses))
    return 0


def compare(losses: Sequence[float]) -> str:
    """Returns a Markdown table of the smallest loss so far, as far as the run went."""
    smallest = list(itertools.accumulate(losses, min))
    rows = [["1", f"{losses[0]:.4g}", "", "", ""]]
    for evaluation, published in NOTEBOOK.items():
        own = own_share = "not run"
        if evaluation <= len(smallest):
            own = f"{smallest[evaluation - 1]:.4g}"
            own_share = f"{smallest[evaluation - 1] / smallest[FIRST - 1]:.3f}"
        share = f"{published / NOTEBOOK[FIRST]:.3f}"
        rows.append([str(evaluation), own, own_share, f"{published:.4g}", share])
    head = ["evaluation", "loss", f"of that at {FIRST}", "notebook's loss", f"of that at {FIRST}"]
    return markdown(head, rows, "rrrrr")


if __name__ == "__main__":
    run_command(main)
