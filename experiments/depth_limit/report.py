"""Tables and the figure, from what is stored; predictions beside the measurements."""

from pathlib import Path

GRADIENTS, RUNS, LESIONS = "gradients.csv.gz", "runs.csv", "lesions.csv"
COLUMNS = {
    GRADIENTS: ("kind", "layers", "channels", "seed", "block", "value"),
    RUNS: (
        "kind",
        "layers",
        "seed",
        "relative_rate",
        "rate",
        "chosen",
        "loss",
        "accuracy",
        "steps_to_fast",
    ),
    LESIONS: ("kind", "layers", "seed", "block", "layer", "intact", "accuracy"),
}


def write(out: Path) -> None:
    """Writes table.md and the figure from what `out` stores."""
