"""Tables and the figure."""

from pathlib import Path

RUNS, COHERENCE = "runs.csv", "coherence.csv"
COLUMNS = {
    RUNS: (
        "arm",
        "layers",
        "seed",
        "relative_rate",
        "rate",
        "chosen",
        "loss",
        "accuracy",
        "steps_to_fast",
    ),
    COHERENCE: ("kind", "layers", "seed", "value"),
}
PLANE = ("plain", "plain, batch norm", "residual", "residual, batch norm")


def write(out: Path, base: Path) -> None:
    """Writes."""
