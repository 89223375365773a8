"""The map of the cells that train, from the stored table."""

from pathlib import Path

import numpy as np
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch

from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import markdown, read_table, select

TABLE = "cells.csv"
COLUMNS = (
    "net",
    "init",
    "norm",
    "learning_rate",
    "seed",
    "step",
    "accuracy",
    "loss",
    "gradient_ratio",
    "outcome",
)
OUTCOMES = ("trained", "slow", "vanished", "dead", "exploded")
OUTCOME_COLORS = (COLORS[2], COLORS[4], COLORS[5], COLORS[7], COLORS[1])


def draw(out: Path) -> None:
    """Draws the map and writes table.md, from the table in `out`."""
    table = read_table(out / TABLE)
    rows = zip(*(table[name].tolist() for name in COLUMNS), strict=True)
    (out / "table.md").write_text(markdown(COLUMNS, rows))
    nets = list(dict.fromkeys(table["net"].tolist()))
    inits = list(dict.fromkeys(table["init"].tolist()))
    rates = sorted(set(table["learning_rate"].tolist()), key=float)
    with figure(
        out / "map", max(6.5, 2.2 + 0.85 * len(rates) * len(nets)), 1.6 + 0.7 * len(inits)
    ) as drawing:
        grid = drawing.subplots(2, len(nets), sharex=True, sharey=True, squeeze=False)
        for row, norm in zip(grid, ("none", "batch"), strict=True):
            for axes, net in zip(row, nets, strict=True):
                codes = np.full((len(inits), len(rates)), np.nan)
                cells = select(table, net=net, norm=norm)
                for init, rate, outcome, accuracy in zip(
                    *(cells[n].tolist() for n in ("init", "learning_rate", "outcome", "accuracy")),
                    strict=True,
                ):
                    place = inits.index(init), rates.index(rate)
                    codes[place] = OUTCOMES.index(outcome)
                    axes.text(
                        place[1],
                        place[0],
                        f"{float(accuracy):.0%}",
                        ha="center",
                        va="center",
                        fontsize=8,
                    )
                axes.imshow(
                    codes,
                    cmap=ListedColormap(OUTCOME_COLORS),
                    norm=BoundaryNorm(np.arange(len(OUTCOMES) + 1) - 0.5, len(OUTCOMES)),
                    aspect="auto",
                    alpha=0.75,
                )
                axes.set_title(f"net {net}, {'batch norm' if norm == 'batch' else 'no norm'}")
                axes.set_xticks(range(len(rates)), rates)
                axes.set_yticks(range(len(inits)), inits)
                axes.grid(False)
        for axes in grid[-1]:
            axes.set_xlabel("learning rate")
        patches = [
            Patch(color=color, alpha=0.75, label=name)
            for name, color in zip(OUTCOMES, OUTCOME_COLORS, strict=True)
        ]
        drawing.legend(handles=patches, loc="outside lower center", ncols=len(OUTCOMES))
