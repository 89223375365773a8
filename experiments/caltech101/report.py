"""Tables and figure of the stored cells."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.caltech101.cells import Cell, Preset, cells, keyed
from experiments.caltech101.features import ENDPOINTS
from vgg_jax.features.linear_probe import PENULTIMATE
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import markdown, mean_interval

PAPER = (92.3, 0.5)  # Simonyan & Zisserman (2014), Table 11, net E: mean and deviation over splits
NOT_RUN = "not run"

Rows = list[dict[str, Any]]


def write(preset: Preset, rows: Rows, tuned: Rows, out: Path) -> None:
    """Writes table.md from the rows of cells.csv and finetune.csv; if there are any, the figure."""
    (out / "table.md").write_text(tables(preset, rows, tuned))
    if rows:
        draw(preset, rows, out / "caltech101")


def tables(preset: Preset, rows: Rows, tuned: Rows) -> str:
    """Returns the tables: scales, training images, layers, fine-tuning."""
    values = recalls(preset, rows)
    by_scale = [cell for cell in cells(preset) if is_main(cell, preset)]
    first, every = preset.scales[:1], preset.scales
    curves = {"alone": first} | ({"stacked": every} if len(every) > 1 else {})
    scales_table = [
        [named(cell), *shown(values[cell], preset), published(cell, preset)] for cell in by_scale
    ]
    count_table = [
        [count, *(shown(values[curve(how, count, curves)], preset)[0] for how in curves)]
        for count in preset.counts
    ]
    layer_table = [
        [endpoint, *shown(values[Cell(endpoint, first, "alone", preset.most)], preset)]
        for endpoint in ENDPOINTS
    ]
    count_head = [f"{how}: {'+'.join(map(str, scales))}" for how, scales in curves.items()]
    tuned_table = []
    for count in preset.tuned_counts:
        found = percent(row for row in tuned if int(row["images_per_class"]) == count)
        compared = (values[Cell(PENULTIMATE, first, "alone", count)], found)
        tuned_table.append([count, *(shown(each, preset)[0] for each in compared)])
    probe = f"linear SVM on {PENULTIMATE} at {first[0]}"
    interval = "mean class recall, % (95% over splits)"
    return "\n".join(
        [
            markdown(
                ["scales", interval, "deviation over splits", "paper, net E"], scales_table, "lrrr"
            ),
            markdown(
                ["training images per class", *count_head], count_table, "r" * (1 + len(count_head))
            ),
            markdown(
                [f"endpoint at {first[0]}", interval, "deviation over splits"], layer_table, "lrr"
            ),
            markdown(
                ["training images per class", probe, "fine-tuning, centre crop"],
                tuned_table,
                "rrr",
            ),
        ]
    )


def recalls(preset: Preset, rows: Rows) -> dict[Cell, list[float]]:
    """Returns the mean class recall in percent of each split that was measured, by cell."""
    by_key = dict(keyed(rows))
    return {
        cell: percent(
            [by_key[cell.key(split)] for split in preset.splits if cell.key(split) in by_key]
        )
        for cell in cells(preset)
    }


def percent(rows: Iterable[dict[str, Any]]) -> list[float]:
    """Returns the mean class recall of rows in percent."""
    return [100 * float(row["class_recall"]) for row in rows]


def is_main(cell: Cell, preset: Preset) -> bool:
    """Says whether a cell differs from the paper's in its scales alone."""
    return cell.endpoint == PENULTIMATE and cell.images_per_class == preset.most


def curve(how: str, count: int, curves: dict[str, tuple[int, ...]]) -> Cell:
    """Returns the cell of a curve over training images."""
    return Cell(PENULTIMATE, curves[how], how, count)


def named(cell: Cell) -> str:
    """Returns "256, 384, 512 stacked"."""
    scales = ", ".join(map(str, cell.scales))
    return scales if cell.combined == "alone" else f"{scales} {cell.combined}"


def published(cell: Cell, preset: Preset) -> str:
    """Returns the paper's value for the cell that is its protocol, else ""."""
    is_paper = cell.combined == "stacked" and preset == Preset()
    return f"{PAPER[0]} ± {PAPER[1]}" if is_paper else ""


def shown(values: list[float], preset: Preset) -> tuple[str, str]:
    """Returns mean and interval, and the deviation over splits, of percentages."""
    if not values:
        return NOT_RUN, ""
    if len(values) < max(2, len(preset.splits)):
        return f"{np.mean(values):.1f} ({len(values)} of {len(preset.splits)} splits)", ""
    mean, half = mean_interval(np.array(values))
    return f"{mean:.1f} ± {half:.1f}", f"{np.std(values, ddof=1):.1f}"


def draw(preset: Preset, rows: Rows, path: Path) -> None:
    """Draws recall over training images, and over the depth of the layer."""
    values = recalls(preset, rows)
    first, every = preset.scales[:1], preset.scales
    with figure(path, 9, 3.6) as drawing:
        left, right = drawing.subplots(1, 2)
        for how, scales in (("alone", first), ("stacked", every)):
            found = [
                (cell.images_per_class, values[cell])
                for count in preset.counts
                if (cell := Cell(PENULTIMATE, scales, how, count)) in values and values[cell]
            ]
            if found:
                label = f"{PENULTIMATE} at {', '.join(map(str, scales))}"
                points(left, found, preset, label)
        if preset == Preset():
            left.axhline(PAPER[0], color=COLORS[-1], linestyle="--", label="paper, 30 images")
        left.set(xlabel="training images per class", xticks=preset.counts)
        left.legend(loc="lower right")
        depth = [
            (place, values[Cell(endpoint, first, "alone", preset.most)])
            for place, endpoint in enumerate(ENDPOINTS)
        ]
        measured = [(place, found) for place, found in depth if found]
        if measured:
            points(right, measured, preset, f"{preset.most} images per class at {first[0]}")
            right.legend(loc="lower right")
        right.set_xticks(range(len(ENDPOINTS)), ENDPOINTS)
        right.set(xlabel="endpoint")
        for axes in (left, right):
            axes.set_ylabel("mean class recall [%]")
            axes.set_ylim(top=min(102, axes.get_ylim()[1]))  # an interval may reach beyond


def points(
    axes: Axes, found: Iterable[tuple[int, list[float]]], preset: Preset, label: str
) -> None:
    """Draws means with intervals over splits; without where splits are missing."""
    places, samples = zip(*found, strict=True)
    intervals = [
        mean_interval(np.array(each)) if len(each) == len(preset.splits) else (np.mean(each), 0.0)
        for each in samples
    ]
    means, halves = zip(*intervals, strict=True)
    axes.errorbar(places, means, halves, marker="o", capsize=3, label=label)
