"""What theory says of depth, of fluctuations and of singular values, against random networks.

    python -m experiments.signal_theory.run [PART] [--preset=quick|full] [--out=DIR]
    python -m experiments.signal_theory.run --redraw [--preset=quick|full] [--out=DIR]

PART is tanh (correlation lengths), relu (the same of ReLU, and the norm), training (which depths
train), gains (ln |J u|^2), edge, spread or stack (singular values of J); all by default. Cells that
are stored are not measured again, so the same command resumes. `--redraw` only writes tables and
figures.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.signal_theory import correlations, figures, gains, spectra, tables, training
from experiments.signal_theory.parts import PARTS
from experiments.signal_theory.presets import PRESETS, Preset
from vgg_jax.cli import run_command
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.xla import enable_compilation_cache

Key = tuple[str, ...]
Cells = Iterator[tuple[Key, Callable[[], list[dict[str, Any]]]]]


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("part", nargs="?", choices=[*PARTS], help="default: all")
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        preset = PRESETS[arguments.preset]
        parts = [arguments.part] if arguments.part else [*PARTS]
        measure(preset, parts, out, Record(out, parser.module, argv))
    if not any((out / part.file).exists() for part in PARTS.values()):
        stored(out / PARTS["tanh"].file)
    (out / "table.md").write_text(tables.write(out))
    figures.draw(out)
    return 0


def measure(preset: Preset, parts: list[str], out: Path, record: Record) -> None:
    """Measures the cells that are not stored yet, and stores each."""
    enable_compilation_cache()
    out.mkdir(parents=True, exist_ok=True)
    for name in parts:
        part = PARTS[name]
        path = out / part.file
        rows = table_rows(read_table(path)) if path.exists() else []
        done = {tuple(str(row[column]) for column in part.key) for row in rows}
        for key, measured in cells(name, preset):
            if key in done:
                continue
            print(f"{name}: {', '.join(key)}", flush=True)
            rows += measured()
            write_table(path, rows, part.columns)
            record.write()


def cells(part: str, preset: Preset) -> Cells:
    """Yields the cells of a part: their key, and what measures them."""
    match part:
        case "tanh":
            for variance, width in itertools.product(preset.length_variances, preset.wide):
                yield (
                    (f"{variance:g}", str(width)),
                    functools.partial(correlations.tanh_pairs, variance, width, preset.nets),
                )
        case "relu":
            for variance, width in itertools.product(preset.relu_variances, preset.wide):
                yield (
                    (f"{variance:g}", str(width)),
                    functools.partial(
                        correlations.relu_pairs, variance, width, preset.relu_layers, preset.nets
                    ),
                )
        case "training":
            grid = itertools.product(preset.trained_depths, preset.trained_variances)
            for depth, variance in grid:
                yield (
                    (f"{variance:g}", str(depth)),
                    functools.partial(training.train_cell, depth, variance, preset),
                )
        case "gains":
            for net in preset.gain_nets:
                yield (net,), functools.partial(gains.measure_net, net, preset.gain_seeds)
        case "edge":
            for layers, width in itertools.product(preset.edge_layers, preset.edge_widths):
                yield square("linear, Gaussian", layers, width, preset)
        case "spread":
            for name, layers in itertools.product(spectra.SQUARES, preset.spread_layers):
                yield square(name, layers, preset.spread_width, preset)
        case "stack":
            for name in spectra.STACKS:
                yield (name,), functools.partial(spectra.stack, name, preset)


def square(name: str, layers: int, width: int, preset: Preset) -> tuple[Key, Any]:
    """Returns a cell of `spectra.square`."""
    measured = functools.partial(spectra.square, name, layers, width, preset.matrix_seeds)
    return (name, str(layers), str(width)), measured


if __name__ == "__main__":
    run_command(main)
