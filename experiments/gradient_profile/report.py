"""Tables and the figure, from what is stored here and by `depth_limit`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.depth_limit import report as base_report
from experiments.depth_limit.nets import AROUND, CONVOLUTIONS, KINDS
from experiments.depth_limit.report import (
    GRADIENTS,
    accuracy_cell,
    blocks_of,
    cells,
    predicted,
    profile_of,
    speed_cell,
    trained,
)
from experiments.gradient_profile.arms import ARMS
from experiments.gradient_profile.coherence import CORRELATION
from vgg_jax.probes.block_theory import block_gradient_correlation
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, read_table, select

RUNS, COHERENCE = "runs.csv", "coherence.csv"
COLUMNS = {
    RUNS: ("arm", *base_report.COLUMNS[base_report.RUNS][1:]),
    COHERENCE: ("kind", "layers", "channels", "border", "seed", "value"),
}
BORDERS = ("zero", "periodic")  # what stands behind the edge of a map
PLANE = ("plain", "plain, batch norm", "residual", "residual, batch norm")
LEAST = 3e-4  # correlation that the figure shows


def write(out: Path, base: Path) -> None:
    """Writes table.md and the figure from what `out` and `base`, of `depth_limit`, store."""
    runs = joined(read_table(out / RUNS), read_table(base / base_report.RUNS))
    places = plane(read_table(out / COHERENCE), read_table(base / GRADIENTS), runs)
    depths = [layers for (layers,) in cells(read_table(out / RUNS), "layers")]
    labels = sorted({*ARMS, *(arm.kind for arm in ARMS.values())}, key=order)
    head = [f"{layers} layers" for layers in depths]
    parts = [
        markdown(
            [what, *head],
            [[label, *(cell(runs, label, layers) for layers in depths)] for label in labels],
            "l" + "r" * len(depths),
        )
        for what, cell in (
            ("test accuracy [%] (first step over weights)", accuracy_cell),
            ("steps to 80% of the training images", speed_cell),
        )
    ]
    (out / "table.md").write_text("\n".join([*parts, plane_table(places)]))
    with figure(out / "profile", 11, 5) as drawing:
        left, right = drawing.subplots(1, 2, width_ratios=(1, 1.15))
        draw_arms(left, runs, labels, depths)
        draw_plane(right, places)


def joined(arms: Table, base: Table) -> Table:
    """Returns the runs of both, the arm or the kind as "kind"."""
    arms = {"kind": arms["arm"]} | arms
    return {name: np.concatenate([arms[name], base[name]]) for name in base}


def order(label: str) -> tuple[int, int]:
    """Sorts arms behind the kind of net that they change."""
    arm = ARMS.get(label)
    kind = arm.kind if arm else label
    return list(KINDS).index(kind), list(ARMS).index(label) if arm else -1


Place = dict[str, Any]


def plane(coherence: Table, gradients: Table, runs: Table) -> list[Place]:
    """Returns growth, correlation and accuracy of every kind and depth, with predictions."""
    found: list[Place] = []
    for kind, layers, channels in cells(coherence, "kind", "layers", "channels"):
        logs = profile_of(gradients, kind, layers, channels)[:, 0]
        mean, spread, periodic = alike(coherence, kind, layers)
        blocks = blocks_of(int(layers))
        theory = block_gradient_correlation(CORRELATION, blocks, **KINDS[kind])[-1]
        accuracy = trained(runs, kind, layers)["accuracy"].astype(float)
        found.append(
            {
                "kind": kind,
                "layers": layers,
                "growth": float(np.exp(logs.mean())),
                "predicted growth": float(predicted(kind, int(layers))[0]),
                "correlation": mean,
                "spread": spread,
                "periodic correlation": periodic,
                "predicted correlation": float(theory),
                "accuracy": float(accuracy.mean()) if len(accuracy) else float("nan"),
            }
        )
    return found


def alike(coherence: Table, kind: str, layers: str) -> tuple[float, float, float]:
    """Returns the correlation of gradients, half its 95% interval, and that of periodic maps."""
    zero, periodic = (
        select(coherence, kind=kind, layers=layers, border=border)["value"] for border in BORDERS
    )
    return *mean_interval(zero), float(periodic.mean()) if len(periodic) else float("nan")


def plane_table(places: list[Place]) -> str:
    """Returns the table of growth and correlation."""
    names = ("growth", "predicted growth", "correlation", "spread")
    names += ("periodic correlation", "predicted correlation")
    rows = [
        [place["kind"], place["layers"]]
        + [f"{place[name]:.3g}" for name in names]
        + [f"{100 * place['accuracy']:.1f}" if np.isfinite(place["accuracy"]) else "-"]
        for place in places
    ]
    head = ["at the start", "layers", "gradient, first over last", "predicted"]
    head += ["correlation of gradients", "95% interval ±", "periodic maps", "predicted"]
    return markdown([*head, "trained: test accuracy [%]"], rows, "lrrrrrrrr")


def draw_arms(axes: Axes, runs: Table, labels: list[str], depths: list[str]) -> None:
    """Draws the test accuracy of every arm over the depth; what is not changed is dashed."""
    for place, label in enumerate(labels):
        color = COLORS[place % len(COLORS)]
        found = [100 * trained(runs, label, d)["accuracy"].astype(float) for d in depths]
        there = [(int(d), f) for d, f in zip(depths, found, strict=True) if len(f)]
        axes.plot(
            [d for d, _ in there],
            [f.mean() for _, f in there],
            "--" if label in KINDS else "-",
            color=color,
            label=label,
        )
        for depth, values in there:
            axes.plot([depth] * len(values), values, ".", color=color, alpha=0.5)
    axes.set_xlabel("layers")
    axes.set_ylabel("test accuracy [%]")
    axes.legend(fontsize=7)
    axes.set_title("same nets, other norms per layer; dashed: as they are", fontsize=9)


def draw_plane(axes: Axes, places: list[Place]) -> None:
    """Draws growth against correlation: points measured, lines predicted, both over depth."""
    for kind, marker in zip(PLANE, "osD^", strict=False):
        of_kind = [
            place for place in places if place["kind"] == kind and np.isfinite(place["accuracy"])
        ]
        if not of_kind:
            continue
        deepest = max(int(place["layers"]) for place in of_kind)
        growths, correlations = zip(*predictions(kind, deepest), strict=True)
        axes.loglog(growths, correlations, "-", color="0.6", linewidth=1)
        growths = [place["growth"] for place in of_kind]
        tops = [place["correlation"] + place["spread"] for place in of_kind]
        bottoms = [max(place["correlation"] - place["spread"], LEAST) for place in of_kind]
        axes.vlines(growths, bottoms, tops, color="0.5", linewidth=1)
        # Where the interval holds zero, its upper end is what is known.
        shown = [
            place["correlation"] if bottom > LEAST else top
            for place, bottom, top in zip(of_kind, bottoms, tops, strict=True)
        ]
        points = axes.scatter(
            growths,
            shown,
            c=[100 * place["accuracy"] for place in of_kind],
            marker=marker,
            s=[12 + int(place["layers"]) for place in of_kind],
            vmin=10,
            vmax=100,
            cmap="viridis",
            edgecolors="0.3",
            label=kind,
            zorder=3,
        )
    axes.set_ylim(LEAST, 1)
    axes.set_xlabel("first gradient over last, at the start")
    axes.set_ylabel(f"correlation of gradients, of inputs {CORRELATION:g}")
    axes.set_title(
        "larger: deeper; lines: predicted; upper end if the interval holds 0", fontsize=9
    )
    axes.legend(fontsize=7)
    axes.figure.colorbar(points, ax=axes, label="test accuracy after training [%]")


def predictions(kind: str, deepest: int) -> Iterator[tuple[float, float]]:
    """Yields growth and correlation in closed form, for one block to the deepest net."""
    depths = range(AROUND + CONVOLUTIONS, deepest + 1, CONVOLUTIONS)
    correlations = block_gradient_correlation(CORRELATION, len(depths), **KINDS[kind])
    growths = [predicted(kind, layers)[0] for layers in depths]
    yield from zip(growths, correlations[1:], strict=True)
