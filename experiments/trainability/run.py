"""Which nets train at all: depth x initialiser x batch norm x learning rate, and the paper's cure.

    python -m experiments.trainability.run [--preset=quick|full] [--out=DIR]
    python -m experiments.trainability.run figures [--preset=quick|full] [--out=DIR]

The first trains every cell of the map on the embedded digits for a fixed number of steps and goes
on where it was stopped; the second rebuilds the map from the csv, without training.
"""

import dataclasses
import itertools
from pathlib import Path

from experiments.trainability import figures
from vgg_jax.cli import CommandParser, run_command
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, write_table
from vgg_jax.xla import enable_compilation_cache


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is trained: every net, norm, initialiser and learning rate."""

    nets: tuple[str, ...]
    inits: tuple[str, ...]
    rates: tuple[float, ...]
    width: float
    steps: int
    batch_size: int = 32


MODULE = "experiments.trainability.run"
PRESETS = {
    "quick": Preset(
        ("D",),
        ("paper", "paper_variance", "glorot_normal", "he_fan_in"),
        (0.01, 0.1),
        0.125,
        80,
    ),
    "full": Preset(
        ("A", "B", "D", "E"),
        ("paper", "paper_variance", "glorot_normal", "he_fan_in", "he_fan_out", "orthogonal"),
        (0.003, 0.01, 0.03, 0.1),
        0.125,
        200,
    ),
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser(MODULE, __doc__)
    parser.add_argument("what", nargs="?", choices=("train", "figures"), default="train")
    parser.add_argument("--preset", choices=[*PRESETS], default="quick")
    parser.add_argument("--out", type=Path, help="default: results/PRESET beside this file")
    arguments = parser.parse_args(argv)
    out = arguments.out or Path(__file__).parent / "results" / arguments.preset
    if arguments.what == "train":
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, MODULE, argv)
        train_all(PRESETS[arguments.preset], out / figures.TABLE)
        record.write()
    figures.draw(out)
    return 0


def train_all(preset: Preset, path: Path) -> None:
    """Trains what the table at `path` does not have yet, writing it after every net and norm."""
    from experiments.trainability.cells import CURE, train_cells  # starts JAX

    enable_compilation_cache()
    rows: list[dict] = []
    if path.exists():
        stored = read_table(path)
        rows = [dict(zip(stored, row, strict=True)) for row in zip(*stored.values(), strict=True)]
    done = {(row["net"], row["norm"]) for row in rows}
    for net, norm in itertools.product(preset.nets, ("none", "batch")):
        if (net, norm) in done:
            continue
        # Net A is what the cure starts from, so it is not cured itself.
        inits = preset.inits + ((CURE,) if net != "A" and norm == "none" else ())
        print(f"net {net}, norm {norm}: {len(inits) * len(preset.rates)} cells", flush=True)
        rows += train_cells(net, norm, inits, preset)
        write_table(path, rows, figures.COLUMNS)


if __name__ == "__main__":
    run_command(main)
