"""Tidy tables of probes, as maps of layer by step."""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from vgg_jax.errors import UserError, quoted
from vgg_jax.reporting import html
from vgg_jax.reporting.svg import WIDTH, line_chart, svg_heat_map

# One map needs the same of all these.
_APART = ("net", "init", "norm", "activation", "pooling", "data", "batch_size", "seed", "quantity")

_MAX_COLUMNS = 60  # of a map; more steps are thinned evenly


@dataclasses.dataclass(frozen=True)
class Grid:
    """One quantity of one net, by layer and step.

    Attributes:
      quantity: its name.
      caption: what tells the grid apart from the others of its file, the quantity first.
      layers: (depth, name), from input to output.
      steps: in order.
      values: {(name of the layer, step): value}, not necessarily of all.
    """

    quantity: str
    caption: str
    layers: list[tuple[float, str]]
    steps: list[int]
    values: Mapping[tuple[str, int], float]

    @property
    def axis(self) -> str:
        """What a chart has below: "step" or "depth [layers]" for a line, "" for a map."""
        if len(self.steps) == 1:
            return "depth [layers]"
        return "step" if len(self.layers) == 1 else ""

    def line(self) -> list[tuple[float, float]]:
        """Returns the points of a line over the axis."""
        return [
            (step if self.axis == "step" else depth, self.values[layer, step])
            for depth, layer in self.layers
            for step in self.steps
            if (layer, step) in self.values
        ]

    def logarithms(self) -> tuple[list[int], list[list[float | None]]]:
        """Returns the steps of a map's columns, and log10(value) for each layer and step.

        None for what was not measured or has no logarithm.
        """
        steps = self.steps[:: math.ceil(len(self.steps) / _MAX_COLUMNS)]
        rows = [[_log10(self.values.get((layer, s))) for s in steps] for _, layer in self.layers]
        return steps, rows


def read_grids(path: Path) -> list[Grid]:
    """Returns the grids in a tidy csv file.

    Columns: `layer`, `depth`, `step`, `quantity`, `value`, and what the runs differ by.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return _grids(path)
    except (ValueError, KeyError, TypeError, OverflowError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {quoted(str(error))}") from error


def _grids(path: Path) -> list[Grid]:
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    with path.open(newline="", errors="replace") as file:
        for row in csv.DictReader(file):
            if row.get("layer") and row["value"]:
                groups.setdefault(tuple(row.get(key) or "" for key in _APART), []).append(row)
    differing = [
        i for i in range(len(_APART)) if len({key[i] for key in groups}) > 1 or i == len(_APART) - 1
    ]
    return [
        Grid(
            quantity=key[-1],
            caption=", ".join(key[i] for i in reversed(differing)),
            layers=sorted({(float(row.get("depth") or 0), row["layer"]) for row in rows}),
            steps=sorted({_step(row) for row in rows}),
            values={(row["layer"], _step(row)): float(row["value"]) for row in rows},
        )
        for key, rows in groups.items()
    ]


def grid_charts(grids: Sequence[tuple[str, int, Grid]], width: int = WIDTH) -> list[str]:
    """Returns figures of one quantity: maps that share a scale of colours, then lines together.

    A map is of log10(value), layer by step. A quantity measured once makes a line over the depth,
    one of the whole net a line over the steps. Values that are not positive have no logarithm and
    stay empty; what is empty altogether is left out.

    Args:
      grids: (caption, number of the line's style, grid).
      width: of a map.
    """
    figures = []
    maps = [(caption, grid, *grid.logarithms()) for caption, _, grid in grids if not grid.axis]
    known = [v for *_, rows in maps for row in rows for v in row if v is not None]
    for caption, grid, steps, rows in maps:
        chart = svg_heat_map(
            [layer for _, layer in grid.layers],
            [str(step) for step in steps],
            rows,
            x_label="step",
            y_label="layer",
            unit=f"log10 {grid.quantity}",
            limits=(min(known), max(known)) if known else None,
            width=width,
        )
        figures.append((caption, chart))
    for axis in dict.fromkeys(grid.axis for *_, grid in grids if grid.axis):
        captions, styles, lines = zip(*(g for g in grids if g[2].axis == axis), strict=True)
        quantity = lines[0].quantity
        chart = line_chart(
            [(caption, grid.line()) for caption, grid in zip(captions, lines, strict=True)],
            x_label=axis,
            y_label=quantity,
            log_y=True,
            styles=styles,
        )
        figures.append((captions[0] if len(lines) == 1 else quantity, chart))
    return [html.captioned_figure(caption, chart) for caption, chart in figures if chart]


def _step(row: dict[str, str]) -> int:
    return int(row.get("step") or 0)


def _log10(value: float | None) -> float | None:
    return math.log10(value) if value is not None and 0 < value < math.inf else None
