"""What is measured: linear classifiers on features of Caltech-101, and on which photos."""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.caltech101.features import ENDPOINTS, Cache
from vgg_jax.data.caltech101 import Caltech101, open_caltech101
from vgg_jax.features.linear_probe import PENULTIMATE, classify_linearly, draw_few, stack

COSTS = (0.1, 1.0, 10.0, 100.0)  # of which C is chosen
KEY = ("endpoint", "scales", "combined", "images_per_class", "split")
COLUMNS = (*KEY, "c", "train_examples", "examples", "classes", "class_recall", "top1")
COMBINED = ("alone", "averaged", "stacked")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much is measured.

    Attributes:
      classes: number of classes, evenly spaced among all; None for all.
      splits: numbers of the splits.
      counts: training images per class; features are computed for the largest.
      test_images: at most so many test images per class.
      scales: shortest sides in pixels, in the order in which they are computed.
      tuned_counts: training images per class of fine-tuning, some of `counts`.
      epochs: of fine-tuning.
    """

    classes: int | None = None
    splits: tuple[int, ...] = (0, 1, 2)
    counts: tuple[int, ...] = (5, 10, 15, 20, 25, 30)
    test_images: int = 50
    scales: tuple[int, ...] = (256, 384, 512)
    tuned_counts: tuple[int, ...] = (5, 30)
    epochs: float = 6.0

    @property
    def most(self) -> int:
        """The largest number of training images per class."""
        return max(self.counts)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One classifier for each split: on which features, from how many images."""

    endpoint: str
    scales: tuple[int, ...]
    combined: str
    images_per_class: int

    def key(self, split: int) -> tuple[str, ...]:
        """Returns what `KEY` names, as a csv file has it."""
        scales = "+".join(map(str, self.scales))
        return (self.endpoint, scales, self.combined, str(self.images_per_class), str(split))


def cells(preset: Preset) -> list[Cell]:
    """Returns all cells of a preset, those that need fewer features first."""
    first, every = preset.scales[0], preset.scales
    found = [Cell(PENULTIMATE, (scale,), "alone", preset.most) for scale in every]
    several = len(every) > 1
    found += [Cell(PENULTIMATE, every, how, preset.most) for how in COMBINED[1:] if several]
    found += [Cell(endpoint, (first,), "alone", preset.most) for endpoint in ENDPOINTS]
    for count in preset.counts:
        found += [Cell(PENULTIMATE, (first,), "alone", count)]
        found += [Cell(PENULTIMATE, every, "stacked", count)] if several else []
    return sorted(dict.fromkeys(found), key=lambda cell: len(cell.scales))


def photos_of(archive: Path, preset: Preset, part: str, split: int) -> Caltech101:
    """Returns the photos of a part, "train" or "test", of a split, as the preset limits them."""
    source = open_caltech101(archive, f"{part}-{split}")
    total = len(source.class_names)
    chosen = np.arange(total)
    if preset.classes is not None:
        chosen = np.unique(np.linspace(0, total - 1, preset.classes).astype(int))
    most = preset.most if part == "train" else preset.test_images
    kept = np.concatenate([np.flatnonzero(source.labels == label)[:most] for label in chosen])
    return _some(source, kept)


def few_of(photos: Caltech101, count: int) -> Caltech101:
    """Returns so many photos of each class, fewer being a part of more: those that cells draw."""
    return _some(photos, draw_few(photos.labels, count, seed=0))


def _some(photos: Caltech101, chosen: np.ndarray) -> Caltech101:
    files = tuple(photos.files[index] for index in chosen)
    return Caltech101(photos.archive, files, photos.class_names)


def complete(cache: Cache, cell: Cell, photos: Iterable[Caltech101]) -> bool:
    """Says whether the cache has all features of the photos that a cell needs."""
    return not any(cache.missing(scale, part.files) for part in photos for scale in cell.scales)


def measure(
    cache: Cache, cell: Cell, columns: dict[str, slice], split: tuple[Caltech101, Caltech101]
) -> dict:
    """Trains a cell's classifier on the first of two parts of a split; scores it on the second."""
    train, test = split
    train = few_of(train, cell.images_per_class)
    described = []
    for part in (train, test):
        by_scale = [cache.read(q, part.files)[:, columns[cell.endpoint]] for q in cell.scales]
        averaged = cell.combined == "averaged"
        described.append(stack([np.mean(by_scale, 0)] if averaged else by_scale))
    features, test_features = described
    scores = classify_linearly(features, train.labels, test_features, test.labels, costs=COSTS)
    return {name: scores[name] for name in COLUMNS if name in scores}


def keyed(rows: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yields rows of a csv file with what `Cell.key` returns for them."""
    for row in rows:
        yield tuple(str(row[name]) for name in KEY), row
