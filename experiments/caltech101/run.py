"""Makes the Caltech-101 cell of the paper's Table 11: a linear SVM on VGG-19's features.

    python -m experiments.caltech101.run [probe|tables|finetune] --weights=vgg19.safetensors
        --archive=caltech101.zip [--preset=quick|full] [--cache=DIR] [--out=DIR]
    python -m experiments.caltech101.run --redraw [--preset=quick|full] [--out=DIR]

`probe` computes the features of the photos scale by scale, those of split 0 first, and stores them
in --cache (default: in the user's cache folder), so that a run that was killed resumes; measures a
classifier as soon as its features are there. `tables` computes no features: what lacks them is
"not run". `finetune` trains the network on each split instead. Writes cells.csv, finetune.csv,
table.md, caltech101.png and record.json. What is stored is not measured again.
"""

import itertools
import os
from functools import partial
from pathlib import Path
from typing import Any

from experiments.caltech101 import report
from experiments.caltech101.cells import (
    COLUMNS,
    Preset,
    cells,
    complete,
    keyed,
    measure,
    photos_of,
)
from experiments.caltech101.features import Cache, columns, compute
from experiments.caltech101.finetune import COLUMNS as TUNED_COLUMNS
from experiments.caltech101.finetune import KEY as TUNED_KEY
from experiments.caltech101.finetune import finetune
from vgg_jax.cli import run_command
from vgg_jax.data.caltech101 import ALL, Caltech101, open_caltech101
from vgg_jax.errors import UserError
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.weights.loading import describe_weights, load_weights
from vgg_jax.xla import enable_compilation_cache

PRESETS = {
    "quick": Preset(
        classes=6, counts=(2, 3), test_images=2, scales=(256,), tuned_counts=(3,), epochs=4.0
    ),
    "full": Preset(),
}
PARTS = ("probe", "tables", "finetune")
CELLS, TUNED = "cells.csv", "finetune.csv"


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("part", nargs="?", choices=PARTS, default=PARTS[0])
    parser.add_argument("--weights", type=Path, help="VGG-19's weights file")
    parser.add_argument("--archive", type=Path, help="zip of Caltech-101 with splits.csv")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of features")
    args = parser.parse_args(argv)
    preset, out = PRESETS[args.preset], args.out
    if args.redraw:
        stored(out / CELLS)
    elif args.weights is None or args.archive is None:
        raise UserError("give --weights=FILE and --archive=caltech101.zip to measure, or --redraw")
    else:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv, ["scikit-learn", "pillow"])
        enable_compilation_cache()
        spent: list[dict[str, float]] = []
        if args.part == "finetune":
            workdir = args.cache / f"finetune-{args.preset}"
            tune(preset, args.weights, args.archive, workdir, out / TUNED)
        else:
            only_tables = args.part == "tables"
            spent = probe(preset, args.weights, args.archive, args.cache, out / CELLS, only_tables)
        record.write(features=spent)
    report.write(preset, rows_of(out / CELLS), rows_of(out / TUNED), out)
    return 0


def probe(
    preset: Preset, weights: Path, archive: Path, cache: Path, path: Path, only_tables: bool
) -> list[dict[str, float]]:
    """Computes features and measures the cells that have theirs; returns what features took."""
    stored_features = Cache(cache, weights, open_caltech101(archive, ALL))
    print(f"features: {stored_features.folder}", flush=True)
    splits = {
        split: (
            photos_of(archive, preset, "train", split),
            photos_of(archive, preset, "test", split),
        )
        for split in preset.splits
    }
    classify = partial(measure_cells, preset, stored_features, weights, splits, path)
    if only_tables:
        classify()
        return []
    network = load_weights(weights)
    spent = []
    for scale in preset.scales:
        for split, parts in splits.items():
            files = [file for part in parts for file in part.files]
            spent.append(compute(stored_features, network, scale, files, f"split {split}"))
            classify()
    return spent


def measure_cells(
    preset: Preset,
    cache: Cache,
    weights: Path,
    splits: dict[int, tuple[Caltech101, Caltech101]],
    path: Path,
) -> None:
    """Adds to a csv file the cells that it lacks and whose features are complete."""
    rows = rows_of(path)
    known = {key for key, _ in keyed(rows)}
    where = columns(describe_weights(weights).model)
    for cell in cells(preset):
        for split, photos in splits.items():
            key = cell.key(split)
            if key in known or not complete(cache, cell, photos):
                continue
            row = dict(zip(COLUMNS, key, strict=False)) | measure(cache, cell, where, photos)
            print(f"{' '.join(key)}: {row['class_recall']:.1%} (C = {row['c']:g})", flush=True)
            rows.append(row)
            write_table(path, rows, COLUMNS)


def tune(preset: Preset, weights: Path, archive: Path, workdir: Path, path: Path) -> None:
    """Adds to a csv file the splits that it lacks, those of few images first."""
    rows = rows_of(path)
    known = {tuple(int(row[name]) for name in TUNED_KEY) for row in rows}
    for count, split in itertools.product(preset.tuned_counts, preset.splits):
        if (count, split) not in known:
            folder = workdir / f"{count}-{split}"
            rows.append(finetune(weights, archive, preset, count, split, folder))
            write_table(path, rows, TUNED_COLUMNS)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a csv file, none if it does not exist."""
    return table_rows(read_table(path)) if path.exists() else []


def default_cache() -> Path:
    """Returns the folder of features in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vgg_jax" / "caltech101"


if __name__ == "__main__":
    run_command(main)
