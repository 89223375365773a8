"""Tables and the figure, from what is stored; the closed forms beside every measurement."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.shattered_gradients.cells import DENSE, KINDS, LINE, Cell
from experiments.shattered_gradients.measure import LAGS, LINE_SCALE, POSITIONS
from vgg_jax.probes.coherence import (
    gaussian_autocorrelation,
    gradient_correlation,
    half_gates_law,
    line_covariance,
    noise_covariance,
)
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import markdown, mean_interval, read_table, select, table_rows

TABLE = "measurements.csv.gz"
READOUT = "readout.csv"
READOUT_COLUMNS = ("gradient", "seed", "rms", "correlation")
CELL = tuple(field.name for field in dataclasses.fields(Cell))
COLUMNS = (*CELL, "depth", "lag", "seed", "value")
SHOWN_LAGS = (1, 4, 16, 64)
SHOWN_DEPTH = 24  # of the lines in the figure
PLACES = (13, 26)  # gates between which the exponent is taken
NOISES = ("brown", "white")
ROUNDING = 1e-6  # a gradient that small beside others is rounding errors of float32

Measured = dict[Cell, dict[int, np.ndarray]]  # {cell: {depth: (seeds,), or (seeds, lags)}}


def write(out: Path) -> None:
    """Writes table.md and the figure from what `out` stores."""
    measured = read(out / TABLE)
    pairs = {cell: found for cell, found in measured.items() if cell.inputs != LINE}
    lines = {cell: found for cell, found in measured.items() if cell.inputs == LINE}
    dense = {cell: found for cell, found in pairs.items() if cell.net == DENSE}
    vgg = {cell: found for cell, found in pairs.items() if cell.net != DENSE}
    parts = [
        correlations(dense),
        exponents(dense),
        of_vgg(vgg),
        autocorrelations(lines),
        readouts(out / READOUT),
    ]
    (out / "table.md").write_text("\n".join(parts))
    with figure(out / "coherence", 9, 6.8) as drawing:
        (depths, inputs), (along, images) = drawing.subplots(2, 2)
        draw_depths(depths, dense)
        draw_inputs(inputs, dense)
        draw_lines(along, lines)
        draw_vgg(images, vgg)
        handles, labels = depths.get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3)


def read(path: Path) -> Measured:
    """Returns the stored measurements; along a line one value per lag of `LAGS`."""
    table = read_table(path)
    measured: Measured = {}
    for row in table_rows(table):
        cell = Cell(*(str(row[name]) for name in CELL))
        measured.setdefault(cell, {}).setdefault(int(row["depth"]), [])
    for cell, found in measured.items():
        of_cell = select(table, **dataclasses.asdict(cell))
        for depth in found:
            values = select(of_cell, depth=depth)["value"]
            found[depth] = values.reshape(-1, len(LAGS)) if cell.inputs == LINE else values
    return measured


def predicted(cell: Cell, depth: int) -> np.ndarray:
    """Returns the closed form behind 1, ..., `depth` gates; VGG's pooling is not in it."""
    beta = float(cell.beta)
    return gradient_correlation(float(cell.inputs), depth, beta=beta, **KINDS[cell.kind])


def correlations(dense: Measured) -> str:
    """Returns the table of the pairs in dense networks."""
    rows = []
    for cell, found in dense.items():
        for depth, values in found.items():
            law = half_gates_law(depth, beta=float(cell.beta), **KINDS[cell.kind])
            theory = predicted(cell, depth)[-1]
            places = [cell.kind, cell.beta, cell.width, cell.inputs, depth]
            rows.append([*places, *interval(values), f"{theory:.3g}", f"{law:.3g}"])
    head = ["dense nets", "beta", "width", "inputs", "gates", "measured", "95% interval"]
    return markdown([*head, "closed form", "half of the gates"], rows, "lrrrrrrrr")


def exponents(dense: Measured) -> str:
    """Returns the table of d log(correlation) / d log(depth) between the `PLACES`."""
    rows = []
    first, last = PLACES
    span = np.log(last / first)
    for cell, found in dense.items():
        if (
            first in found
            and last in found
            and np.all(found[last] > 0)
            and np.all(found[first] > 0)
        ):
            slopes = np.log(found[last] / found[first]) / span
            theory = predicted(cell, last)
            slope = np.log(theory[last - 1] / theory[first - 1]) / span
            places = [cell.kind, cell.beta, cell.width, cell.inputs]
            rows.append([*places, *interval(slopes), f"{slope:.3g}"])
    head = ["dense nets", "beta", "width", "inputs"]
    head += [f"exponent from {first} to {last} gates", "95% interval", "closed form"]
    return markdown(head, rows, "lrrrrrr")


def of_vgg(vgg: Measured) -> str:
    """Returns the table of the pairs in VGG."""
    rows = []
    for cell, found in vgg.items():
        for depth, values in found.items():
            theory = predicted(cell, depth)[-1]
            places = [cell.net, cell.kind, cell.pooling, cell.pixels, cell.inputs, depth]
            rows.append([*places, *interval(values), f"{theory:.3g}"])
    head = ["VGG", "", "pooling", "pixels", "inputs", "gates", "measured", "95% interval"]
    return markdown([*head, "closed form"], rows, "lllrrrrrr")


def autocorrelations(lines: Measured) -> str:
    """Returns the table of autocorrelations at `SHOWN_LAGS`, of networks and of noise."""
    places = [LAGS.index(lag) for lag in SHOWN_LAGS]
    rows = []
    for cell, found in lines.items():
        for depth, values in found.items():
            theory = along_line(cell, depth)
            cells = [
                f"{mean:.3f} ± {spread:.3f} ({theory[place]:.3f})"
                for place in places
                for mean, spread in [mean_interval(values[:, place])]
            ]
            name = "dense" if cell.net == DENSE else f"VGG {cell.net}"
            rows.append([name, cell.kind, depth, *cells])
    for noise in NOISES:
        values = of_noise(noise)
        rows.append([f"{noise} noise", "", "", *(f"({values[place]:.3f})" for place in places)])
    head = ["line", "", "gates", *(f"lag {lag}" for lag in SHOWN_LAGS)]
    return markdown(head, rows, "llrrrrr")


@functools.cache  # for the table and for the figure
def along_line(cell: Cell, depth: int) -> np.ndarray:
    """Returns the closed form at `LAGS`."""
    options = {"scale": LINE_SCALE, "beta": float(cell.beta)} | KINDS[cell.kind]
    return gaussian_autocorrelation(line_covariance(POSITIONS, depth, **options), LAGS)


def of_noise(kind: str) -> np.ndarray:
    """Returns the autocorrelation of noise as long as the line, at `LAGS`."""
    return gaussian_autocorrelation(noise_covariance(kind, len(POSITIONS)), LAGS)


def readouts(path: Path) -> str:
    """Returns the table of what a gradient is taken of."""
    table = read_table(path)
    rows = []
    for name in dict.fromkeys(table["gradient"].tolist()):
        found = select(table, gradient=name)
        size, correlation = (found[name].astype(float) for name in ("rms", "correlation"))
        alike = interval(correlation) if np.mean(size) > ROUNDING else ("zero but for rounding", "")
        rows.append([name, *interval(size), *alike])
    head = ["batch norm: gradient of", "RMS", "95% interval", "correlation", "95% interval"]
    return markdown(head, rows, "lrrrr")


def interval(values: np.ndarray) -> tuple[str, str]:
    """Returns the mean of a sample and its 95% interval."""
    mean, spread = mean_interval(values)
    return f"{mean:.3g}", f"{mean - spread:.3g} to {mean + spread:.3g}"


def by_kind(measured: Measured, **wanted: str) -> Iterator[tuple[str, str, Cell]]:
    """Yields colour, kind and cell of those with the given fields."""
    for color, kind in zip(COLORS, KINDS, strict=False):
        for cell in measured:
            fields = dataclasses.asdict(cell) | {"kind": cell.kind}
            if cell.kind == kind and all(fields[name] == wanted[name] for name in wanted):
                yield color, kind, cell


def draw_depths(axes: Axes, dense: Measured) -> None:
    """Draws the correlation against depth, for inputs that correlate by one half."""
    width = main_width(dense)
    for color, kind, cell in by_kind(dense, inputs="0.5", width=width, beta="1"):
        found = dense[cell]
        gates = np.arange(1, max(found) + 1)
        with_points(axes, np.array([*found]), [*found.values()], color, kind)
        axes.plot(gates, predicted(cell, max(found)), color="black", linewidth=0.7)
        law = half_gates_law(gates, **KINDS[kind])
        axes.plot(gates, law, color=color, linestyle=":", linewidth=1)
    axes.plot([], [], color="black", linewidth=0.7, label="closed form")
    axes.plot([], [], color="grey", linestyle=":", linewidth=1, label="half of the gates shared")
    axes.set(xscale="log", yscale="log", ylim=(5e-5, 1.2), xlabel="gates")
    axes.set(ylabel="correlation of gradients", title="dense nets, inputs correlate by 0.5")


def draw_inputs(axes: Axes, dense: Measured) -> None:
    """Draws the correlation of gradients against that of the inputs, behind the first place."""
    width, gates = main_width(dense), PLACES[0]
    grid = np.append(np.linspace(0, 0.95, 39), np.linspace(0.96, 1, 9))
    for color, kind in zip(COLORS, KINDS, strict=False):
        cells = [cell for _, _, cell in by_kind(dense, kind=kind, width=width, beta="1")]
        cells = [cell for cell in cells if gates in dense[cell]]
        places = np.array([float(cell.inputs) for cell in cells])
        with_points(axes, places, [dense[cell][gates] for cell in cells], color, kind)
        curve = [gradient_correlation(c, gates, **KINDS[kind])[-1] for c in grid]
        axes.plot(grid, curve, color="black", linewidth=0.7)
    axes.set(yscale="log", ylim=(5e-5, 1.2), xlabel="correlation of inputs")
    axes.set(ylabel="correlation of gradients", title=f"dense nets, {gates} gates")


def draw_lines(axes: Axes, lines: Measured) -> None:
    """Draws the autocorrelation along the line, beside noise."""
    for color, _, cell in by_kind(lines, net=DENSE):
        if SHOWN_DEPTH in lines[cell]:
            values = lines[cell][SHOWN_DEPTH].T
            with_points(axes, np.array(LAGS), [*values], color, None)
            axes.plot(LAGS, along_line(cell, SHOWN_DEPTH), color="black", linewidth=0.7)
    for noise, style in zip(NOISES, ("--", "-."), strict=True):
        axes.plot(LAGS, of_noise(noise), color="grey", linestyle=style, label=f"{noise} noise")
    axes.set(xscale="log", xlabel="lag, in steps of the line", ylabel="autocorrelation")
    axes.set_title(f"along a line, dense nets, {SHOWN_DEPTH} gates")
    axes.legend()


def draw_vgg(axes: Axes, vgg: Measured) -> None:
    """Draws the correlation in VGG against the closed form; crosses are pooled by maximum."""
    for color, _, cell in by_kind(vgg):
        for depth, values in vgg[cell].items():
            mean, spread = mean_interval(values)
            marker = "x" if cell.pooling == "max" else "o"
            theory = predicted(cell, depth)[-1]
            axes.errorbar(theory, mean, spread, color=color, marker=marker, markersize=4, capsize=2)
    axes.plot([1e-5, 1], [1e-5, 1], color="black", linewidth=0.7)
    axes.set(xscale="log", yscale="log", xlim=(1e-5, 1), ylim=(1e-5, 1))
    axes.set(xlabel="closed form", ylabel="correlation of gradients")
    axes.set_title("VGG; crosses: pooled by maximum")


def main_width(dense: Measured) -> str:
    """Returns the width that all kinds are measured at."""
    return next(iter(dense)).width


def with_points(
    axes: Axes, x: np.ndarray, samples: list[np.ndarray], color: str, label: str | None
) -> None:
    """Draws means with their intervals."""
    means, spreads = zip(*map(mean_interval, samples), strict=True) if samples else ((), ())
    marks = {"marker": "o", "markersize": 3, "linestyle": "none", "capsize": 2}
    axes.errorbar(x, means, spreads, color=color, label=label, **marks)
