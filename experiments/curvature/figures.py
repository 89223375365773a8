"""Tables and the figure of what was measured."""

from pathlib import Path

import numpy as np

from experiments.curvature.descents import STABLE
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, pivot, select

NORMS = {"none": "no norm", "batch": "batch norm"}
FEW = 3  # seeds of which an interval is made
SETTLED = 0.75  # share of a descent after which its sharpness is averaged


def draw(edge: Table, rates: Table, scale: Table, out: Path) -> None:
    """Writes table.md and edge.png."""
    parts = [settled_table(edge), rates_table(rates), scale_table(scale), path_table(edge)]
    (out / "table.md").write_text("\n".join(parts))
    _draw(edge, out / "edge")


def settled(edge: Table, **cell: str) -> np.ndarray:
    """Returns the mean sharpness of the last quarter over the predicted limit, (seeds,).

    NaN for a descent that ended early.
    """
    chosen = select(edge, quantity="sharpness", **cell)
    limits = select(edge, quantity="sharpness", step=0, **cell)
    _, steps, values = pivot(chosen, "seed", "step")
    limit = limits["limit"].astype(float)[np.argsort(limits["seed"])]
    return values[:, steps >= SETTLED * steps.max()].mean(axis=1) / limit


def settled_table(edge: Table) -> str:
    """Returns the sharpness where descents settle, over the predicted limit."""
    lines = []
    for net, norm, threshold, optimizer in _cells(edge, "net", "norm", "threshold", "optimizer"):
        found = settled(edge, net=net, norm=norm, threshold=threshold, optimizer=optimizer)
        cell = {"net": net, "norm": norm, "threshold": threshold, "optimizer": optimizer}
        start = select(edge, quantity="sharpness", step=0, **cell)["value"].mean()
        ends = select(edge, quantity="accuracy", **cell)
        last = ends["value"][ends["step"] == ends["step"].max()].mean()
        lines.append(
            [
                *(net, NORMS[norm], optimizer, threshold),
                *(f"{start:.3g}", _interval(found), f"{last:.0%}"),
            ]
        )
    head = ["net", "norm", "optimiser", "limit / sharpness at the start", "at the start"]
    head += ["last quarter / limit", "accuracy"]
    title = f"Sharpness at the start, and in the last quarter over the limit ({_limits()}):\n\n"
    return title + markdown(head, lines)


def rates_table(rates: Table) -> str:
    """Returns the largest rate that trains, times the sharpness at the start."""
    lines = []
    for net, norm in _cells(rates, "net", "norm"):
        chosen = select(rates, net=net, norm=norm)
        largest, absolute = [], []
        for seed in sorted(set(chosen["seed"])):
            of = select(chosen, seed=seed)
            works = of["trains"].astype(int) == 1
            factors = of["factor"].astype(float)
            first = factors[works].min(initial=np.inf)
            too_large = factors[~works & (factors > first)].min(initial=np.inf)
            best = factors[works & (factors < too_large)].max(initial=0)
            largest.append(best)
            absolute.append(of["rate"].astype(float)[factors == best].max(initial=0))
        lines.append(
            [
                *(net, NORMS[norm]),
                ", ".join(f"{x:.3g}" for x in largest),
                ", ".join(f"{x:.2g}" for x in absolute),
            ]
        )
    head = ["net", "norm", "rate times sharpness at the start, seed by seed", "rate"]
    return "The largest rate of gradient descent that trains:\n\n" + markdown(head, lines)


def scale_table(scale: Table) -> str:
    """Returns curvature and gradient of one kernel, multiplied by numbers."""
    lines = []
    for net, norm in _cells(scale, "net", "norm"):
        for factor in sorted(set(scale["scale"]), key=float):
            chosen = select(scale, net=net, norm=norm, scale=factor)
            values = [
                _interval(chosen[name].astype(float))
                for name in ("sharpness", "gradient", "cosine")
            ]
            lines.append([net, NORMS[norm], factor, *values])
    head = ["net", "norm", "W times", "eigenvalue x W^2", "gradient x W", "cosine"]
    return "The second convolution's kernel W alone:\n\n" + markdown(head, lines)


def path_table(edge: Table) -> str:
    """Returns sharpness and trace along gradient descent."""
    lines = []
    for net, norm, threshold in _cells(edge, "net", "norm", "threshold"):
        cell = {"net": net, "norm": norm, "threshold": threshold}
        for quantity in ("sharpness", "trace"):
            chosen = select(edge, quantity=quantity, optimizer="gradient descent", **cell)
            _, steps, values = pivot(chosen, "seed", "step")
            at = [int(np.abs(steps - share * steps.max()).argmin()) for share in (0, 0.25, 0.5, 1)]
            lines.append(
                [net, NORMS[norm], threshold, quantity, *(_interval(values[:, i]) for i in at)]
            )
    head = ["net", "norm", "limit / start", "of the Hessian", "start", "quarter", "half", "end"]
    return "Along gradient descent:\n\n" + markdown(head, lines)


def _limits() -> str:
    return ", ".join(f"{name} {value:.3g} / rate" for name, value in STABLE.items())


def _cells(table: Table, *names: str) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(zip(*(table[name].tolist() for name in names), strict=True)))


def _interval(values: np.ndarray) -> str:
    if not np.isfinite(values).all():
        return "not finite"
    mean, half = mean_interval(values)
    if len(values) < FEW:  # as yet
        return f"{mean:.3g} ({len(values)} of {FEW} seeds)"
    return f"{mean:.3g} +- {half:.2g}"


def _draw(edge: Table, path: Path) -> None:
    nets = list(dict.fromkeys(edge["net"].tolist()))
    threshold = edge["threshold"][0]
    with figure(path, width=4.6 * len(nets), height=6) as drawing:
        panels = drawing.subplots(2, len(nets), sharex=True, squeeze=False)
        for column, net in enumerate(nets):
            for axes, (norm, name) in zip(panels[:, column], NORMS.items(), strict=True):
                for color, optimizer in zip(COLORS, STABLE, strict=False):
                    chosen = select(
                        edge,
                        net=net,
                        norm=norm,
                        optimizer=optimizer,
                        threshold=threshold,
                        quantity="sharpness",
                    )
                    for seed in sorted(set(chosen["seed"])):
                        of = select(chosen, seed=seed)
                        axes.plot(
                            of["step"],
                            of["value"] / of["limit"].astype(float),
                            color=color,
                            linewidth=1,
                            label=optimizer if seed == 0 else None,
                        )
                axes.axhline(1, color="black", linestyle="--", linewidth=1)
                axes.set_title(f"net {net}, {name}", fontsize=10)
                axes.set_ylim(0, max(2.0, 1.05 * axes.dataLim.y1))
        for axes in panels[-1]:
            axes.set_xlabel("step")
        for axes in panels[:, 0]:
            axes.set_ylabel("sharpness / predicted limit")
        panels[0, 0].legend(fontsize=8)
