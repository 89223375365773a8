"""VGG-19 on labelled photos, by the paper's protocols, against an independent implementation.

    python -m experiments.photos_evaluation.run --weights=FILE --data_dir=DIR [--out=DIR]
    python -m experiments.photos_evaluation.run --redraw --data_dir=DIR [--out=DIR]

DIR holds photos.csv, photos/ and photos_oracle.json. Results that are stored in --out are not
measured again. `--redraw` only writes the table again.
"""

import csv
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.cli import run_command, show_progress
from vgg_jax.data.folder import FolderSource, imagenet_classes
from vgg_jax.errors import UserError
from vgg_jax.evaluation.accuracy import accuracy_report
from vgg_jax.evaluation.probabilities import dataset_probabilities
from vgg_jax.runs.experiments import ExperimentParser, measured_once, stored
from vgg_jax.runs.record import record
from vgg_jax.runs.tables import markdown
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights
from vgg_jax.xla import enable_compilation_cache

BATCH_SIZE = 16
ALL = 500
FEW = 100  # of the photos, for slow protocols
KEPT = 50  # classes of a photo whose probabilities are stored
SCALES = (256, 384, 512)  # of Table 4 of the paper
# Protocol, scale and number of photos, cheap ones first.
CELLS = (
    ("center", 256, ALL),
    ("center", 256, FEW),
    *(("dense", scale, FEW) for scale in (*SCALES, 288)),
    ("multicrop", 256, FEW),
)
AVERAGES = {
    "dense 256,384,512": [("dense", scale) for scale in SCALES],
    "both 256": [("dense", 256), ("multicrop", 256)],
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__)
    parser.add_argument("--weights", type=Path, help="VGG-19's weights file")
    parser.add_argument("--data_dir", type=Path, required=True, help="folder of photos.csv")
    args = parser.parse_args(argv)
    if not (args.data_dir / "photos.csv").is_file():
        raise UserError(f"no photos.csv in {args.data_dir}: give the folder that holds it")
    if args.redraw:
        write_table(args.data_dir, stored(args.out))
        return 0
    if args.weights is None:
        raise UserError("give --weights=FILE to measure, or --redraw")
    enable_compilation_cache()
    args.out.mkdir(parents=True, exist_ok=True)
    weights = load_weights(args.weights)
    described = record(parser.module, argv)
    for protocol, scale, count in CELLS:
        stem = args.out / f"{protocol}_{scale}_{count}"
        measured = partial(measure, weights, args.data_dir, stem, protocol, scale, count, described)
        measured_once(stem.with_suffix(".json"), measured)
        write_table(args.data_dir, args.out)
    return 0


def open_photos(data_dir: Path, count: int) -> FolderSource:
    """Opens the first photos of photos.csv, in its order, as the oracle does."""
    with (data_dir / "photos.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    labels = np.array([int(row["index"]) for row in rows], np.int32)
    files = [row["file"] for row in rows]
    return FolderSource(data_dir, files, labels, tuple(imagenet_classes().values()))


def measure(
    weights: Weights,
    data_dir: Path,
    stem: Path,
    protocol: str,
    scale: int,
    count: int,
    described: dict[str, Any],
) -> dict[str, Any]:
    """Returns the scores of one protocol at one scale; stores the probabilities of few photos."""
    print(f"{protocol} at {scale}, {count} photos", flush=True)
    started = time.perf_counter()
    probabilities, labels = dataset_probabilities(
        [weights],
        open_photos(data_dir, count),
        protocol=protocol,
        scales=(scale,),
        batch_size=BATCH_SIZE,
        progress=lambda indices: show_progress(indices, "photo"),
    )
    report = accuracy_report(probabilities, labels)
    report |= {"protocol": protocol, "scale": scale, "crop": weights.preprocessing.crop}
    report |= {"seconds": time.perf_counter() - started} | described
    if count == FEW:  # to average over scales and protocols
        np.savez_compressed(stem, **likeliest(probabilities), labels=labels)
    return report


def likeliest(probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the 50 likeliest classes of each photo, of (N, K), and their probabilities, float16.

    Enough for an average: what is among its first five is among the first fifty of a member.
    """
    classes = np.argsort(-probabilities, axis=1, kind="stable")[:, :KEPT]
    values = np.take_along_axis(probabilities, classes, axis=1).astype(np.float16)
    return {"classes": classes.astype(np.uint16), "probabilities": values}


def all_classes(kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns float32 (N, 1000) of what `likeliest` kept; zero where it kept nothing."""
    full = np.zeros((len(kept["classes"]), 1000), np.float32)
    np.put_along_axis(full, kept["classes"].astype(int), kept["probabilities"], axis=1)
    return full


def write_table(data_dir: Path, out: Path) -> None:
    """Writes table.md from the stored results."""
    oracle = json.loads((data_dir / "photos_oracle.json").read_text())
    known = {("center", 256, ALL): oracle["centre_crop"]}
    known |= {("dense", scale, FEW): oracle["dense"][f"Q{scale}"] for scale in (256, 288)}
    lines = []
    kept: dict[tuple[str, int], np.ndarray] = {}
    for protocol, scale, count in CELLS:
        stem = out / f"{protocol}_{scale}_{count}"
        if not stem.with_suffix(".json").exists():
            continue
        theirs = known.get((protocol, scale, count))
        counts = (
            [round(theirs[name] * theirs["images"]) for name in ("top1", "top5")] if theirs else []
        )
        report = json.loads(stem.with_suffix(".json").read_text())
        lines.append(row(f"{protocol} {scale}", report, *counts))
        if count == FEW:
            with np.load(stem.with_suffix(".npz")) as file:
                kept[protocol, scale] = all_classes(file)
                labels = file["labels"]
    for name, members in AVERAGES.items():
        if kept.keys() >= set(members):
            mean = np.mean([kept[member] for member in members], 0)
            lines.append(row(name, accuracy_report(mean, labels)))
    head = ["protocol", "photos", "top-1 right", "top-5 right", "oracle, top-1", "oracle, top-5"]
    (out / "table.md").write_text(markdown(head, lines, "lrrrrr"))


def row(name: str, report: dict, *oracle: int) -> list[Any]:
    """Returns a row of the table."""
    correct = [report[f"{score}_correct"] for score in ("top1", "top5")]
    return [name, report["examples"], *correct, *(oracle or ("", ""))]


if __name__ == "__main__":
    run_command(main)
