"""What is stored, and what the tables of it share."""

import dataclasses
from typing import Any

import numpy as np

from vgg_jax.runs.tables import Table


@dataclasses.dataclass(frozen=True)
class Part:
    """A table of measurements: its file, its columns, and those that name a cell."""

    file: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


_PAIRS = ("variance", "width", "seed", "depth", "quantity", "value")
_RUNS = ("variance", "layers", "rate", "seed", "chosen", "loss", "accuracy")
_VALUES = ("net", "layers", "width", "seed", "quantity", "value")
PARTS = {
    "tanh": Part("tanh.csv.gz", _PAIRS, ("variance", "width")),
    "relu": Part("relu.csv.gz", _PAIRS, ("variance", "width")),
    "edge": Part("edge.csv", _VALUES, ("net", "layers", "width")),
    "spread": Part("spread.csv.gz", _VALUES, ("net", "layers", "width")),
    "stack": Part("stack.csv", _VALUES, ("net",)),
    "gains": Part("gains.csv.gz", ("net", "end", "seed", "value"), ("net",)),
    "training": Part("training.csv", _RUNS, ("variance", "layers")),
}


def numbers(column: np.ndarray) -> list[Any]:
    """Returns the distinct entries of a column of numbers, as they are written, in order."""
    return sorted(set(column.tolist()), key=float)


def interval(middle: float, half: float, digits: int = 3) -> str:
    """Returns "middle [low, high]"."""
    low, high = (f"{value:.{digits}g}" for value in (middle - half, middle + half))
    return f"{middle:.{digits}g} [{low}, {high}]"


def by_seed(table: Table) -> np.ndarray:
    """Returns values (seeds, depths) of a table in which each pair occurs once."""
    seeds = len(set(table["seed"].tolist()))
    order = np.lexsort((table["depth"], table["seed"]))
    return table["value"][order].reshape(seeds, -1)
