"""Tables and figures of what was measured."""

import itertools
from pathlib import Path

import numpy as np

from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, pivot, select

NAMES = {"none": "no norm", "batch": "batch norm", "noisy": "noisy batch norm"}
QUANTITIES = {
    "variation": "variation of the loss",
    "gradient_change": "change of the gradient",
    "smoothness": "effective smoothness",
}
UNITS = {
    "gradient": "0.05 to 0.4 times the gradient",
    "relative": "1e-4 to 0.1 of the weights' norm",
}


def draw(table: Table, plane: Table, out: Path) -> None:
    """Writes table.md, landscape.png and surface.png."""
    (out / "table.md").write_text(tables(table))
    _draw_landscape(table, out / "landscape")
    _draw_surface(plane, out / "surface")


def rates(table: Table) -> list[str]:
    """Returns the learning rates, ascending, as they are written."""
    return sorted(set(table["learning_rate"]), key=float)


def best_rates(table: Table) -> dict[str, float]:
    """Returns the rate of the best mean accuracy for each norm."""
    return {
        norm: max(
            (float(rate) for rate in rates(table)),
            key=lambda rate, norm=norm: accuracies(table, norm, rate).mean(),
        )
        for norm in NAMES
    }


def accuracies(table: Table, norm: str, rate: float) -> np.ndarray:
    """Returns the accuracies at the end, (seeds,)."""
    return _at(table, norm, rate, "accuracy")["value"]


def averages(table: Table, norm: str, rate: float, quantity: str) -> np.ndarray:
    """Returns the geometric mean over the measured steps but the first, (seeds,).

    NaN for a seed whose run was not finite to the end.
    """
    chosen = _at(table, norm, rate, quantity)
    _, steps, values = pivot(chosen, "seed", "step")
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.exp(np.log(values[:, steps > 0]).mean(axis=1))


def ratio(above: np.ndarray, below: np.ndarray) -> str:
    """Returns the mean ratio over the seeds with its 95% interval, both on the logarithm."""
    logs = np.log(above / below)
    if not np.all(np.isfinite(logs)):
        return "not finite"
    mean, half = mean_interval(logs)
    return f"{np.exp(mean):.3g} [{np.exp(mean - half):.3g}, {np.exp(mean + half):.3g}]"


def tables(table: Table) -> str:
    """Returns the tables as Markdown."""
    best = best_rates(table)
    parts = ["Accuracy at the end, mean and 95% interval over the seeds:\n"]
    lines = []
    for rate in rates(table):
        cells = [mean_interval(100 * accuracies(table, norm, float(rate))) for norm in NAMES]
        lines.append([rate, *(f"{mean:.1f} +- {half:.1f}" for mean, half in cells)])
    parts.append(markdown(["rate", *NAMES.values()], lines, "rrrr"))

    for unit, explained in UNITS.items():
        parts.append(f"Without norm over with, steps of {explained}:\n")
        lines = []
        for rate, norm in itertools.product((*rates(table), "best"), ("batch", "noisy")):
            at = [best[n] if rate == "best" else float(rate) for n in ("none", norm)]
            cells = [
                ratio(
                    averages(table, "none", at[0], f"{unit}/{quantity}"),
                    averages(table, norm, at[1], f"{unit}/{quantity}"),
                )
                for quantity in QUANTITIES
            ]
            which = f"best: {at[0]:g}, {at[1]:g}" if rate == "best" else rate
            lines.append([which, NAMES[norm], *cells])
        parts.append(markdown(["rate", "against", *QUANTITIES.values()], lines))

    parts.append(
        "The course script's quantity, on the same runs: largest minus least loss over the rates\n"
        "at a step, mean over the steps after the first ten:\n"
    )
    lines = [[NAMES[norm], _spread(table, norm)] for norm in NAMES]
    parts.append(markdown(["net", "mean and 95% interval"], lines))
    return "\n".join(parts)


def _at(table: Table, norm: str, rate: float, quantity: str) -> Table:
    chosen = select(table, norm=norm, quantity=quantity)
    keep = chosen["learning_rate"].astype(float) == rate
    return {name: column[keep] for name, column in chosen.items()}


def _spread(table: Table, norm: str) -> str:
    values = []
    for seed in sorted(set(table["seed"])):
        _, _, losses = pivot(
            select(table, norm=norm, seed=seed, quantity="loss"), "learning_rate", "step"
        )
        losses = losses[np.isfinite(losses).all(axis=1)][:, 10:]  # of runs that reach the end
        values.append((losses.max(0) - losses.min(0)).mean())
    mean, half = mean_interval(np.asarray(values))
    return f"{mean:.3g} +- {half:.2g}"


def _draw_landscape(table: Table, path: Path) -> None:
    best = best_rates(table)
    with figure(path, width=11, height=5.5) as drawing:
        panels = drawing.subplots(len(UNITS), len(QUANTITIES), sharex=True)
        for (row, unit), (column, quantity) in itertools.product(
            enumerate(UNITS), enumerate(QUANTITIES)
        ):
            axes = panels[row, column]
            for color, (norm, name) in zip(COLORS, NAMES.items(), strict=False):
                chosen = _at(table, norm, best[norm], f"{unit}/{quantity}")
                _, steps, values = pivot(chosen, "seed", "step")
                label = f"{name}, rate {best[norm]:g}"
                axes.plot(steps, np.exp(np.log(values).mean(0)), color=color, label=label)
                axes.fill_between(
                    steps, values.min(0), values.max(0), color=color, alpha=0.25, linewidth=0
                )
            axes.set_yscale("log")
            axes.set_title(f"{QUANTITIES[quantity]}\n{UNITS[unit]}", fontsize=9)
        for axes in panels[-1]:
            axes.set_xlabel("step")
        panels[0, 0].legend(fontsize=8)


def _draw_surface(plane: Table, path: Path) -> None:
    with figure(path, width=11, height=3.6) as drawing:
        panels = drawing.subplots(1, len(NAMES), sharey=True)
        for axes, (norm, name) in zip(panels, NAMES.items(), strict=True):
            chosen = select(plane, norm=norm)
            a, b, loss = (np.asarray(chosen[key], float) for key in ("a", "b", "loss"))
            side = int(len(loss) ** 0.5)
            x, y, z = (values.reshape(side, side) for values in (a, b, loss))
            drawn = axes.contour(x, y, np.log10(z), levels=12, cmap="viridis")
            axes.clabel(drawn, fontsize=7)
            axes.set_title(f"{name}, rate {float(chosen['learning_rate'][0]):g}", fontsize=9)
            axes.set_xlabel("first direction")
        panels[0].set_ylabel("second direction")
        drawing.suptitle("log10 of the loss, filter-normalised directions, seed 0", fontsize=10)
