"""Tidy tables of probes, as maps of layer by step."""

import csv
import math
from pathlib import Path

from vgg_jax.errors import UserError, quoted
from vgg_jax.reporting import html
from vgg_jax.reporting.svg import line_chart, svg_heat_map

# One map needs the same of all these.
_APART = ("net", "init", "norm", "activation", "pooling", "data", "batch_size", "seed", "quantity")

_MAX_COLUMNS = 60  # of a map; more steps are thinned evenly


def probe_charts(path: Path) -> list[str]:
    """Returns a figure for every quantity in a tidy csv file.

    Columns: `layer`, `depth`, `step`, `quantity`, `value`, and what the runs differ by. A quantity
    measured at several steps gives a map of log10(value), layer by step; one measured once a line
    over the depth, and one of the whole net a line over the steps. Values that are not positive
    have no logarithm and stay empty.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return _figures(path)
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {quoted(str(error))}") from error


def _figures(path: Path) -> list[str]:
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row.get("layer") and row["value"]:
                groups.setdefault(tuple(row.get(key) or "" for key in _APART), []).append(row)
    differing = [
        i for i in range(len(_APART)) if len({key[i] for key in groups}) > 1 or i == len(_APART) - 1
    ]
    return [
        html.captioned_figure(", ".join(key[i] for i in reversed(differing)), chart)
        for key, rows in groups.items()
        if (chart := _chart(key[-1], rows))
    ]


def _chart(quantity: str, rows: list[dict[str, str]]) -> str:
    layers = sorted({(_depth(row), row["layer"]) for row in rows})
    steps = sorted({int(row.get("step") or 0) for row in rows})
    values = {(row["layer"], int(row.get("step") or 0)): float(row["value"]) for row in rows}
    if len(steps) == 1:
        points = [(depth, values[layer, steps[0]]) for depth, layer in layers]
        return line_chart(
            [(quantity, points)], x_label="depth [layers]", y_label=quantity, log_y=True
        )
    if len(layers) == 1:
        points = [(step, values[layers[0][1], step]) for step in steps]
        return line_chart([(quantity, points)], x_label="step", y_label=quantity, log_y=True)
    steps = steps[:: math.ceil(len(steps) / _MAX_COLUMNS)]
    logs = [[_log10(values.get((layer, step))) for step in steps] for _, layer in layers]
    return svg_heat_map(
        [layer for _, layer in layers],
        [str(step) for step in steps],
        logs,
        x_label="step",
        y_label="layer",
        unit=f"log10 {quantity}",
    )


def _depth(row: dict[str, str]) -> float:
    return float(row.get("depth") or 0)


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value is not None and value > 0 else None
