"""Published figures, as data files with their sources, to stand beside what runs here reach."""

import csv
import functools
from importlib import resources
from typing import Any

from vgg_jax.models.variants import ALIASES


@functools.cache
def read_published(name: str) -> tuple[dict[str, str], ...]:
    """Returns the rows of `reporting/data/NAME.csv`."""
    path = resources.files("vgg_jax.reporting").joinpath("data", f"{name}.csv")
    with path.open() as file:
        return tuple(csv.DictReader(file))


def published_cifar(config: dict[str, Any]) -> list[dict[str, str]]:
    """Returns the published CIFAR figures for the net and data set of a flat config.

    Empty if there are none: also for a net built of other stages. A narrowed net has those of
    the full one.
    """
    net = str(config.get("model.variant"))
    names = {net} | {alias for alias, variant in ALIASES.items() if variant == net}
    return [
        row
        for row in read_published("cifar")
        if row["dataset"] == config.get("data.name")
        and config.get("data.source") != "folder"  # own photos under a preset's name
        and row["net"] in names
        and row["norm"] == config.get("model.norm")
        and config.get("model.stages") is None
    ]
