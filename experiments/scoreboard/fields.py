"""What units see, and kernels of two sizes: theory and the paper, beside receptive_field."""

from collections.abc import Iterator

from experiments.scoreboard.ours import ROOT
from experiments.scoreboard.rows import Measured, Row
from vgg_jax.runs.tables import Table, read_table, select

RESULTS = "experiments/receptive_field/results/full"
LUO = "Luo et al. 2016; probes/receptive_field.py"
# Top-1 error of the second net over the first, in points.
PAIRS = (
    ("5x5", "shallow B over B", 7.0, "section 2.3 and 4.1", "1"),
    ("LRN", "A-LRN over A", 0.1, "Table 3", "0.2"),
)
SHORT = "500 steps at an eighth of the width on CIFAR-10, not 74 epochs of ImageNet"


def field_rows() -> Iterator[Row]:
    """Yields a row per unit that receptive_field measured, and per pair that the paper names."""
    start, trained_vgg = (f"{RESULTS}/{name}.csv" for name in ("start", "vgg19"))
    table = read_table(ROOT / start)
    for net in dict.fromkeys(table["net"].tolist()):
        yield from _spreads(f"net {net}", select(table, net=net), start)
    table = select(read_table(ROOT / trained_vgg), state="untrained")
    for layer in dict.fromkeys(table["layer"].tolist()):
        yield from _spreads(f"VGG-19 {layer}, photos", select(table, layer=layer), trained_vgg)
    runs = f"{RESULTS}/training.csv"
    table = read_table(ROOT / runs)
    for pair, name, theirs, place, tolerance in PAIRS:
        errors = [
            -100 * select(table, pair=pair, budget=budget)["top1"].astype(float)
            for budget in ("first", "equal width")
        ]
        yield Row(
            f"top-1 error, {name}, equal width, points",
            "published",
            f"Simonyan & Zisserman 2014, {place}",
            theirs,
            tolerance,
            "after",
            Measured.mean(errors[1] - errors[0], runs),
            SHORT,
        )


def _spreads(name: str, table: Table, file: str) -> Iterator[Row]:
    for quantity, theirs, ours in (
        ("squared gradient", "predicted", "squared"),
        ("magnitude", "predicted_magnitude", "magnitude"),
    ):
        yield Row(
            f"spread of a unit's {quantity} over the image at the start, pixels: {name}",
            "theory",
            LUO,
            float(table[theirs][0]),
            "2%",
            "after",
            Measured.mean(table[ours].astype(float), file),
            "neighbouring pixels of photos correlate",
        )
