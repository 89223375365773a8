"""Figures from the table of measurements, theory beside them, and the tables of `tables.py`."""

import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.init_gradients.grid import (
    ACTIVATIONS,
    IMAGE_CHANNELS,
    IMAGE_SIZES,
    INITS,
    NETS,
    NOISE,
    POOLINGS,
    WIDE,
    WIDE_DATA,
    WIDE_STAGES,
)
from experiments.init_gradients.tables import (
    GRADIENT,
    KEYS,
    SETTLED,
    channels,
    decay,
    groups,
    growth,
    out_of_range,
    samples,
    theory,
    write_agreement,
    write_comparisons,
    write_decays,
    write_descents,
    write_growths,
)
from vgg_jax.probes.theory import batch_norm_growth
from vgg_jax.reporting.plots import COLORS, band, figure, heat_map
from vgg_jax.runs.tables import Table, pivot, read_table, select

TABLE = "measurements.csv.gz"
SGD_TABLE = Path("sgd") / "after_sgd.csv.gz"
WINE = "#882255"  # for the lines of initialisers, where black is theory's
INIT_COLORS = dict(
    zip(INITS, (WINE if color == "#000000" else color for color in COLORS), strict=True)
)


def draw(out: Path) -> None:
    """Writes every table and figure in `out` from its tables of measurements."""
    if (out / SGD_TABLE).exists():
        table = read_table(out / SGD_TABLE)
        drawn = (out / SGD_TABLE).with_name("after_sgd")
        write_descents(drawn.with_suffix(".md"), table)
        after_steps(drawn, table)
    if not (out / TABLE).exists():
        return
    gradients = select(read_table(out / TABLE), quantity=GRADIENT)
    write_decays(out / "decay.md", gradients)
    write_comparisons(out / "comparisons.md", gradients)
    wide = select(gradients, net=list(WIDE_STAGES), activation="relu")
    if len(wide["value"]):
        write_growths(out / "batch_norm_growth.md", wide)
        growth_by_samples(out / "batch_norm_growth", wide)

    nets = select(gradients, net=list(NETS))
    if len(nets["value"]):
        write_agreement(out / "agreement.md", nets)
        agreement(out / "agreement", nets)
    sources = [data for data in dict.fromkeys(nets["data"].tolist()) if _shown(data)]
    for data, pooling in itertools.product(sources, POOLINGS):
        rows = select(nets, activation="relu", data=data, pooling=pooling)
        by_layer(out / f"gradients_{data}_pooling_{pooling}", rows, "net", NETS)
    of_d = select(nets, net="D", batch_size=16)
    relu, on_noise = select(of_d, activation="relu"), select(of_d, data=NOISE, pooling="none")
    for data in sources:
        by_layer(out / f"poolings_{data}", select(relu, data=data), "pooling", POOLINGS)
    by_layer(out / "activations", on_noise, "activation", ACTIVATIONS)
    by_initialiser(out / "heat_map", select(on_noise, activation="relu"))


def _shown(data: str) -> bool:
    return IMAGE_SIZES.get(data, 32) == 32


def by_layer(path: Path, gradients: Table, column: str, known: tuple[str, ...]) -> None:
    """Draws gradient RMS against layer: a panel per entry of a column, a line per initialiser.

    Draws nothing if the column has fewer than two entries.
    """
    panels = [name for name in known if name in set(gradients[column].tolist())]
    if len(panels) < 2:
        return
    cells = groups(gradients)
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    with figure(path, 3.6 * columns, 3.0 * rows + 0.9) as drawing:
        grid = drawing.subplots(rows, columns, squeeze=False)
        for axes, panel in itertools.zip_longest(grid.flat, panels):
            if panel is None:
                axes.set_axis_off()
                continue
            for key, scales in cells:
                if key[KEYS.index(column)] == panel:
                    _one_line(axes, key, scales)
            axes.set(title=f"{column} {panel}", xlabel="convolution, input to output", yscale="log")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in grid[:, 0]:
            axes.set_ylabel("RMS of dL/dz, last convolution = 1")
        _legend(drawing, {key[1] for key, _ in cells})


def _one_line(axes: Axes, key: tuple, scales: np.ndarray) -> None:
    init, norm = key[1:3]
    x = np.arange(1, scales.shape[1] + 1)
    color = INIT_COLORS[init]
    style = "--" if norm == "batch" else "-"
    band(axes, x, scales / scales[:, -1:], color=color, linestyle=style, linewidth=2.5)
    axes.plot(x, theory(key).gradient_rms, color="black", linewidth=0.7)


def _legend(drawing: Figure, inits: set[str]) -> None:
    lines = [
        Line2D([], [], color=INIT_COLORS[init], linewidth=2.5, label=init) for init in sorted(inits)
    ]
    lines += [
        Line2D([], [], color="grey", label="without norm"),
        Line2D([], [], color="grey", linestyle="--", label="batch norm"),
        Line2D([], [], color="black", linewidth=0.7, label="theory"),
    ]
    drawing.legend(handles=lines, loc="outside lower center", ncols=5)


def agreement(path: Path, gradients: Table) -> None:
    """Draws the decay of every cell, measured against predicted, a panel per pooling."""
    kinds = list(itertools.product(("none", "batch"), ACTIVATIONS))
    cells = [(key, scales) for key, scales in groups(gradients) if not out_of_range(scales)]
    poolings = [name for name in POOLINGS if name in {key[4] for key, _ in cells}]
    with figure(path, 4.2 * len(poolings), 4.6) as drawing:
        panels = drawing.subplots(1, len(poolings), squeeze=False, sharex=True, sharey=True)
        for axes, pooling in zip(panels.flat, poolings, strict=True):
            for color, (norm, activation) in zip(COLORS, kinds, strict=False):
                shown = [
                    (theory(key).backward, decay(scales)[0])
                    for key, scales in cells
                    if (key[2], key[3], key[4]) == (norm, activation, pooling)
                ]
                label = f"{activation}, {'batch norm' if norm == 'batch' else 'no norm'}"
                x, y = zip(*shown, strict=True) if shown else ((), ())
                axes.scatter(x, y, s=10, color=color, alpha=0.7, linewidths=0, label=label)
            low, high = axes.get_xlim()
            axes.plot([low, high], [low, high], color="black", linewidth=0.7)
            axes.set(
                xscale="log", yscale="log", title=f"pooling {pooling}", xlabel="predicted by theory"
            )
        panels.flat[0].set_ylabel("measured: RMS of dL/dz, first over last convolution")
        handles, labels = panels.flat[0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3)


def by_initialiser(path: Path, gradients: Table) -> None:
    """Draws heat maps of the gradient's RMS by initialiser and layer, for net D."""
    cells = dict(groups(gradients))
    norms = [norm for norm in ("none", "batch") if norm in {key[2] for key in cells}]
    if not norms:
        return
    counts = [sum(key[2] == norm for key in cells) for norm in norms]
    with figure(path, 11, 0.4 * sum(counts) + 1.2 * len(norms)) as drawing:
        panels = drawing.subplots(
            len(norms), 1, squeeze=False, gridspec_kw={"height_ratios": counts}
        )
        for axes, norm in zip(panels.flat, norms, strict=True):
            shown = {key[1]: scales for key, scales in cells.items() if key[2] == norm}
            inits = [init for init in INITS if init in shown]
            means = [np.log10(shown[init] / shown[init][:, -1:]).mean(0) for init in inits]
            heat_map(
                axes,
                np.array(means),
                inits,
                theory(next(iter(cells))).names,
                label="log10 of RMS of dL/dz,\nlast convolution = 0",
                diverging=0.0,
                numbers=".1f",
            )
            axes.set_title("batch norm" if norm == "batch" else "without norm")
            axes.tick_params(axis="x", labelsize=8)


def growth_by_samples(path: Path, wide: Table) -> None:
    """Draws the growth per layer with batch norm, along a wide net and against the samples."""
    cells = sorted(groups(wide), key=lambda group: group[0][-1])
    with figure(path, 10, 4) as drawing:
        along, against = drawing.subplots(1, 2)
        of_one = [(key, scales) for key, scales in cells if (key[0], key[5]) == (WIDE, WIDE_DATA)]
        for color, (key, scales) in zip(COLORS, of_one, strict=False):
            ratios = scales[:, :-2] / scales[:, 1:-1]
            x = np.arange(1, ratios.shape[1] + 1)
            band(along, x, ratios, color=color, marker=".", label=f"{samples(key)} samples")
        kinds = list(dict.fromkeys((key[0], key[5]) for key, _ in cells))
        for color, (net, data) in zip(COLORS, kinds, strict=False):
            found = [
                (samples(key), *growth(scales))
                for key, scales in cells
                if (key[0], key[5]) == (net, data)
            ]
            x, mean, low, high = map(np.array, zip(*found, strict=True))
            against.errorbar(
                x,
                mean,
                [mean - low, high - mean],
                color=color,
                marker="o",
                linestyle="none",
                capsize=3,
                label=f"{channels(net)} channels, images {IMAGE_CHANNELS.get(data, 3)}",
            )
        x = np.geomspace(6, 2000, 100)
        against.plot(
            x, [batch_norm_growth(n) for n in x], color="black", linewidth=0.7, label="theory"
        )
        along.axhline(batch_norm_growth(), color="black", linewidth=0.7, linestyle=":")
        along.xaxis.set_major_locator(MaxNLocator(integer=True))
        along.set(
            xlabel="layer", ylabel="growth of RMS of dL/dz a layer, backwards", title="512 channels"
        )
        along.legend(title="dotted: infinitely many,\nsqrt(pi / (pi - 1)) = 1.211")
        against.set(
            xlabel="samples a channel is normalised over",
            ylabel=f"growth a layer, mean of layers past the {SETTLED}th",
            xscale="log",
        )
        against.legend()


def after_steps(path: Path, table: Table) -> None:
    """Draws gradient RMS against layer after steps of SGD, if there are several seeds."""
    gradients = select(table, quantity=GRADIENT)
    repeated = select(gradients, seed=1)
    if not len(repeated["value"]):
        return
    chosen = {name: repeated[name][0] for name in ("net", "init", "norm", "learning_rate")}
    rows = select(gradients, **chosen)
    with figure(path, 6, 4) as drawing:
        axes = drawing.subplots()
        for color, step in zip(COLORS, np.unique(rows["step"]), strict=False):
            scales = pivot(select(rows, step=step), "seed", "depth")[2][:, :-1]
            x = np.arange(1, scales.shape[1] + 1)
            band(axes, x, scales / scales[:, -1:], color=color, marker=".", label=f"{step} steps")
        axes.set(
            xlabel="convolution, input to output",
            ylabel="RMS of dL/dz, last convolution = 1",
            yscale="log",
            title=f"net {chosen['net']}, {chosen['init']}, batch norm, "
            f"rate {chosen['learning_rate']}",
        )
        axes.legend(title="SGD")
