"""Three figures: depth scales, log-normal gains, singular values."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.signal_theory import matrix_tables, tables
from experiments.signal_theory.gains import ENDS, ONE_PIXEL, predicted
from experiments.signal_theory.parts import PARTS, by_seed, numbers
from experiments.signal_theory.presets import BIAS_VARIANCE
from experiments.signal_theory.spectra import predicted_spread
from vgg_jax.probes.jacobian import gaussian_product_edge
from vgg_jax.probes.mean_field import TanhMeanField, relu_distance
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, mean_interval, read_table, select

POINTS: dict[str, Any] = {"marker": "o", "markersize": 4, "linestyle": "none", "capsize": 3}
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # of variances
INSIDE = 0.995  # the edge of chaos is left out of curves, by this much of its slope


def draw(out: Path) -> None:
    """Draws what the stored tables in `out` allow."""
    read = {
        name: read_table(out / part.file)
        for name, part in PARTS.items()
        if (out / part.file).exists()
    }
    groups = {
        "depth_scales": {"tanh": lengths, "training": training, "relu": relu},
        "log_normal": {"gains": gains},
        "singular_values": {"edge": edge, "spread": spread},
    }
    for name, panels in groups.items():
        if panels.keys() <= read.keys():
            count = 2 if name == "log_normal" else len(panels)
            with figure(out / name, 4.2 * count, 3.9) as drawing:
                axes = drawing.subplots(1, count)
                if name == "log_normal":
                    axes = [axes]
                for place, (part, panel) in zip(axes, panels.items(), strict=True):
                    panel(place, read[part])


def lengths(axes: Any, table: Table) -> None:
    """Draws correlation lengths against the weight variance."""
    found = list(tables.correlation_lengths(table))
    for color, width in zip(COLORS, found[0].measured, strict=False):
        middle, low, high = np.array([length.measured[width] for length in found]).T
        axes.errorbar(
            [length.variance for length in found],
            middle,
            [middle - low, np.minimum(high, 1e3) - middle],
            color=color,
            label=f"measured, width {width}",
            **POINTS,
        )
    variances = np.linspace(found[0].variance, found[-1].variance, 200)
    axes.plot(variances, predicted_lengths(variances), color="black", label="fixed point")
    axes.set(yscale="log", xlabel="weight variance x fan-in", ylabel="layers")
    axes.set_title("correlation length, tanh")
    axes.legend(fontsize=8)


def predicted_lengths(variances: np.ndarray) -> np.ndarray:
    """Returns correlation lengths, NaN close to the edge of chaos."""
    nets = [TanhMeanField(float(variance), BIAS_VARIANCE) for variance in variances]
    far = [abs(net.slope(1.0) - 1) > 1 - INSIDE for net in nets]
    return np.array(
        [net.correlation_length if kept else np.nan for net, kept in zip(nets, far, strict=True)]
    )


def training(axes: Any, table: Table) -> None:
    """Draws test accuracy by variance and depth as colours, and the rule as a line."""
    variances, depths, values = tables.accuracies(table)
    x, y = np.array(variances, float), np.array(depths, float)
    image = axes.pcolormesh(
        np.arange(len(x) + 1) - 0.5,
        np.arange(len(y) + 1) - 0.5,
        values.mean(-1).T,
        cmap="viridis",
        vmin=0,
        vmax=1,
    )
    axes.figure.colorbar(image, ax=axes, label="accuracy on test images")
    fine = np.linspace(x[0], x[-1], 300)
    rule = np.interp(
        tables.RULE * predicted_lengths(fine), y, np.arange(len(y)), left=-0.5, right=len(y) - 0.5
    )
    axes.plot(np.interp(fine, x, np.arange(len(x))), rule, color="white", linewidth=2.5)
    axes.plot(
        np.interp(fine, x, np.arange(len(x))), rule, color=COLORS[1], label=f"{tables.RULE} lengths"
    )
    axes.set_xticks(range(len(x)), variances)
    axes.set_yticks(range(len(y)), depths)
    axes.set_ylim(-0.5, len(y) - 0.5)
    axes.grid(False)
    axes.set(xlabel="weight variance x fan-in", ylabel="layers", title="what trains, tanh")
    axes.legend(loc="upper right", fontsize=8, frameon=True)


def relu(axes: Any, table: Table) -> None:
    """Draws 1 - c of ReLU nets against the layer."""
    widest = numbers(table["width"])[-1]
    found = select(table, quantity="distance", width=widest)
    layers = np.arange(1, int(found["depth"].max()) + 1)
    for color, variance in zip(COLORS, numbers(found["variance"]), strict=False):
        mean = by_seed(select(found, variance=variance)).mean(0)[1:]
        axes.plot(layers, mean, color=color, linewidth=2.5, label=f"variance {variance}")
    axes.plot(layers, tables.exact_relu_distances(layers[-1])[1:], color="black", label="map")
    late = layers[layers >= 10]
    axes.plot(late, relu_distance(late), color="black", linestyle=":", label="9 pi^2 / (2 l^2)")
    axes.set(xscale="log", yscale="log", xlabel="layer l", ylabel="1 - c")
    axes.set_title(f"ReLU, width {widest}")
    axes.legend(fontsize=8)


def gains(panels: Any, table: Table) -> None:
    """Draws measured against predicted variances, and quantiles against those of a Gaussian."""
    from scipy.stats import norm

    against, quantiles = panels
    nets = list(dict.fromkeys(table["net"].tolist()))
    kinds = {
        "1x1 kernels, one pixel": [net for net in nets if net in ONE_PIXEL],
        "real VGGs": [net for net in nets if net not in ONE_PIXEL],
    }
    predictions = [predicted(net, end)[0].variance for net in nets for end in ENDS]
    line = min(predictions), max(predictions)
    against.plot(line, line, color="black", linewidth=0.7)
    for color, (kind, members) in zip(COLORS, kinds.items(), strict=False):
        for net in members:
            for end in ENDS:
                values = matrix_tables.centred(table, net, end)
                middle, half = matrix_tables.variance_interval(values)
                against.errorbar(
                    predicted(net, end)[0].variance, middle, half, color=color, **POINTS
                )
            values = np.sort(matrix_tables.centred(table, net, "convolutions"))
            normal = norm.ppf((np.arange(len(values)) + 0.5) / len(values))
            standard = (values - values.mean()) / values.std()
            quantiles.plot(normal, standard, color=color, linewidth=0.8)
        quantiles.plot([], [], color=color, label=kind)
    quantiles.axline((0, 0), slope=1, color="black", linewidth=0.7, linestyle="--")
    against.set(
        xscale="log", yscale="log", xlabel="5 sum(1/n), and 2/m", ylabel="variance of ln |J u|^2"
    )
    ticks = [tick for tick in TICKS if line[0] / 2 < tick < 2 * line[1]]
    against.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    against.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    against.minorticks_off()
    quantiles.set(
        xlabel="quantile of a Gaussian",
        ylabel="quantile of ln |J u|^2, standardised",
        title="every net, last activation",
    )
    quantiles.legend(fontsize=8)


def edge(axes: Any, table: Table) -> None:
    """Draws the largest squared singular value of linear nets against depth."""
    depths = numbers(table["layers"])
    x = np.array(depths, float)
    for color, width in zip(COLORS, numbers(table["width"]), strict=False):
        cells = [
            mean_interval(matrix_tables.values_of(table, "largest", layers=depth, width=width) ** 2)
            for depth in depths
        ]
        middle, half = np.array(cells).T
        axes.errorbar(x, middle, half, color=color, label=f"width {width}", **POINTS)
    line = np.linspace(x[0], x[-1], 100)
    law = [gaussian_product_edge(value) for value in line]
    axes.plot(line, law, color="black", label="(L+1)^(L+1) / L^L")
    axes.set_xticks(x, depths)
    axes.set(xlabel="layers L", ylabel="largest squared singular value", title="linear, Gaussian")
    axes.legend(fontsize=8)


def spread(axes: Any, table: Table) -> None:
    """Draws the relative variance of squared singular values against depth."""
    for color, net in zip(COLORS, dict.fromkeys(table["net"].tolist()), strict=False):
        depths = numbers(select(table, net=net)["layers"])
        x = np.array(depths, float)
        middle = [
            matrix_tables.values_of(table, "relative_variance", net=net, layers=depth).mean()
            for depth in depths
        ]
        axes.plot(x, middle, color=color, marker="o", markersize=4, linestyle="none", label=net)
        law = [predicted_spread(net, int(depth), int(table["width"][0])) for depth in depths]
        axes.plot(x, law, color=color, linewidth=0.8)
    axes.set(xscale="log", xlabel="layers", ylabel="variance of s^2 over its mean squared")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(-0.02, 200)
    axes.set_xticks(x, depths)
    axes.minorticks_off()
    axes.set_title("spread; lines: theory")
    axes.legend(fontsize=7, ncols=2, loc="center", bbox_to_anchor=(0.5, 0.25))
