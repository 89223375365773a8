"""Our numbers for what papers published: each derived from the network or a stored table."""

import csv
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from experiments.init_gradients.tables import decay, groups, growth
from experiments.scoreboard.rows import Measured
from vgg_jax.models import VGG
from vgg_jax.models.summary import Summary, summarize_model
from vgg_jax.runs.tables import read_table, select

ROOT = Path(__file__).parents[2]
GRADIENTS = "experiments/init_gradients/results/full/measurements.csv.gz"
CIFAR = "experiments/cifar_tables/results/short/table.csv"
CALTECH = "experiments/caltech101/results/full/cells.csv"
CALTECH_SPLITS = 3
TABLES = "experiments/paper_tables/results/table_{}.csv"


def ours(family: str, key: str) -> Measured | None:
    """Returns our number for a line of theirs.csv; None if it has not been measured.

    Args:
      family: a name of `FAMILIES`.
      key: what it takes, words separated by spaces.
    """
    return FAMILIES[family](*key.split())


def parameters(variant: str, norm: str) -> Measured:
    """Returns the number of parameters, in millions."""
    return Measured.single(_summary(variant, norm).parameters / 1e6, "vgg_jax/models/vgg.py")


def gmacs(variant: str) -> Measured:
    """Returns the multiply-accumulate operations at 224 pixels, in units of 1e9."""
    return Measured.single(_summary(variant, "none").macs / 1e9, "vgg_jax/models/vgg.py")


@functools.cache  # several of theirs are of one network
def _summary(variant: str, norm: str) -> Summary:
    return summarize_model(VGG(variant=variant, norm=norm), 224)


def first_over_last(
    net: str, init: str, norm: str, activation: str, pooling: str, data: str, batch_size: str
) -> Measured | None:
    """Returns the gradient's RMS at the first over that at the last convolution."""
    cells = gradient_cells()
    key = (net, init, norm, activation, pooling, data, int(batch_size))
    return _measured(decay(cells[key]), len(cells[key]), GRADIENTS) if key in cells else None


def batch_norm_growth(data: str, batch_size: str) -> Measured | None:
    """Returns the growth of the gradient per layer of 512 channels."""
    cells = gradient_cells()
    key = ("wide-20", "he_fan_in", "batch", "relu", "none", data, int(batch_size))
    return _measured(growth(cells[key]), len(cells[key]), GRADIENTS) if key in cells else None


def cifar(net: str, norm: str) -> Measured | None:
    """Returns the best test accuracy on CIFAR-10 along the run of `--preset=short`, in percent."""
    for row in _lines(CIFAR):
        if (row["net"], row["norm"]) == (net, norm) and row["best [%]"] != "-":
            return Measured.single(float(row["best [%]"]), CIFAR)
    return None


def table(number: str, line: str, column: str) -> Measured | None:
    """Returns a cell of the paper's tables 3 to 5.

    Args:
      number: of the table, such as "03".
      line: the first cells, joined by "/": "D/256/256".
      column: "top-1" or "top-5".
    """
    file = TABLES.format(number)
    for row in _lines(file):
        names = [name for name in row if "error" not in name]
        if "/".join(row[name] for name in names) == line:
            cell = row[f"{column} error [%], here"]
            return Measured.single(float(cell), file) if cell else None
    raise KeyError(f"{file} has no line {line}")


def caltech101(scales: str, combined: str) -> Measured | None:
    """Returns the mean class recall on Caltech-101 from 30 images per class, in percent.

    Args:
      scales: shortest sides in pixels: "256+384+512".
      combined: "stacked" or "averaged".
    """
    if not (ROOT / CALTECH).exists():
        return None
    wanted = {"endpoint": "relu7", "images_per_class": "30", "scales": scales, "combined": combined}
    found = [
        100 * float(row["class_recall"])
        for row in _lines(CALTECH)
        if all(row[name] == value for name, value in wanted.items())
    ]
    return Measured.mean(np.array(found), CALTECH) if len(found) == CALTECH_SPLITS else None


FAMILIES: dict[str, Callable[..., Measured | None]] = {
    "parameters": parameters,
    "gmacs": gmacs,
    "first_over_last": first_over_last,
    "batch_norm_growth": batch_norm_growth,
    "cifar": cifar,
    "table": table,
    "caltech101": caltech101,
}


@functools.cache
def gradient_cells() -> dict[tuple, np.ndarray]:
    """Returns the gradients of `init_gradients` by cell, (seeds, convolutions)."""
    table = read_table(ROOT / GRADIENTS)
    return dict(groups(select(table, quantity="activation_grad_rms")))


def _measured(found: tuple[float, float, float], seeds: int, file: str) -> Measured:
    return Measured(*found, seeds, file)


@functools.cache
def _lines(file: str) -> list[dict[str, str]]:
    with (ROOT / file).open(newline="") as stream:
        return list(csv.DictReader(stream))
