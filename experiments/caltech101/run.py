"""Makes the Caltech-101 cell of the paper's Table 11: a linear SVM on VGG-19's features.

    python -m experiments.caltech101.run --weights=vgg19.safetensors --archive=caltech101.zip
        [--preset=quick|full] [--cache=DIR] [--out=DIR]
    python -m experiments.caltech101.run tables [the same options]
    python -m experiments.caltech101.run --redraw [--preset=quick|full] [--out=DIR]

Computes the features of the photos scale by scale, those of split 0 first, and stores them in
--cache (default: in the user's cache folder), so that a run that was killed resumes; measures a
classifier as soon as its features are there. `tables` computes no features: what lacks them is
"not run". Writes cells.csv, table.md, caltech101.png and record.json.
"""

import os
from functools import partial
from pathlib import Path

from experiments.caltech101 import report
from experiments.caltech101.cells import (
    COLUMNS,
    Photos,
    Preset,
    cells,
    complete,
    keyed,
    measure,
    photos_of,
)
from experiments.caltech101.features import Cache, columns, compute
from vgg_jax.cli import run_command
from vgg_jax.data.caltech101 import ALL, open_caltech101
from vgg_jax.errors import UserError
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.weights.loading import describe_weights
from vgg_jax.xla import enable_compilation_cache

PRESETS = {
    "quick": Preset(classes=4, counts=(2, 3), test_images=3, scales=(256,)),
    "full": Preset(),
}
CELLS = "cells.csv"


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("part", nargs="?", choices=("tables",), help="default: features too")
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
        run(preset, args.weights, args.archive, args.cache, out, only_tables=bool(args.part))
        record.write()
    report.write(preset, table_rows(read_table(out / CELLS)), out)
    return 0


def run(
    preset: Preset, weights: Path, archive: Path, cache: Path, out: Path, *, only_tables: bool
) -> None:
    """Computes features and measures the cells that have theirs."""
    enable_compilation_cache()
    stored_features = Cache(cache, weights, open_caltech101(archive, ALL))
    print(f"features: {stored_features.folder}", flush=True)
    splits = {
        split: [photos_of(archive, preset, part, split) for part in ("train", "test")]
        for split in preset.splits
    }
    classify = partial(measure_cells, preset, stored_features, weights, splits, out / CELLS)
    if only_tables:
        classify()
        return
    for scale in preset.scales:
        for split, parts in splits.items():
            files = [file for part in parts for file in part.files]
            compute(stored_features, weights, scale, files, f"split {split}")
            classify()


def measure_cells(
    preset: Preset, cache: Cache, weights: Path, splits: dict[int, list[Photos]], path: Path
) -> None:
    """Adds to a csv file the cells that it lacks and whose features are complete."""
    rows = table_rows(read_table(path)) if path.exists() else []
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
    if not path.exists():
        write_table(path, rows, COLUMNS)


def default_cache() -> Path:
    """Returns the folder of features in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "vgg_jax" / "caltech101"


if __name__ == "__main__":
    run_command(main)
