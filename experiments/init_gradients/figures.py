"""Figures and tables from the table of measurements, theory beside them."""

import functools
import itertools
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.init_gradients.grid import IMAGE_SIZES, INITS, NETS, WIDE, WIDE_STAGES
from vgg_jax.models.variants import resolve_stages
from vgg_jax.probes.theory import Prediction, batch_norm_growth, predict
from vgg_jax.reporting.plots import COLORS, band, figure, heat_map
from vgg_jax.reporting.tables import Table, markdown, mean_interval, pivot, read_table, select

TABLE = "measurements.csv.gz"
SGD_TABLE = "after_sgd.csv"
KEYS = ("net", "init", "norm", "activation", "pooling", "data", "batch_size")
GRADIENT = "activation_grad_rms"
SETTLED = 8  # layers of the wide network after which its samples no longer correlate
WINE = "#882255"  # for the lines of initialisers, where black is theory's
INIT_COLORS = dict(
    zip(INITS, (WINE if color == "#000000" else color for color in COLORS), strict=True)
)


def draw(out: Path) -> None:
    """Rebuilds every table and figure under `out` from its table of measurements."""
    table = read_table(out / TABLE)
    gradients = select(table, quantity=GRADIENT)
    write_decays(out, gradients)
    write_comparisons(out, gradients)
    kinds = {
        (str(p), str(d))
        for p, d, net in zip(gradients["pooling"], gradients["data"], gradients["net"], strict=True)
        if net in NETS and IMAGE_SIZES.get(str(d), 32) == 32
    }
    for pooling, data in sorted(kinds):
        chosen = select(gradients, pooling=pooling, data=data, activation="relu")
        by_layer(out / f"gradients_{data}_pooling_{pooling}", chosen)
    by_initialiser(out / "heat_map", select(gradients, pooling="none", activation="relu"))
    wide = select(gradients, net=WIDE)
    if len(wide["value"]):
        growth_by_samples(out / "batch_norm_growth", wide)
    if (out / SGD_TABLE).exists():
        write_descents(out, read_table(out / SGD_TABLE))


# --- What a cell gives ---------------------------------------------------------------------------


def groups(table: Table) -> list[tuple[tuple, np.ndarray]]:
    """Returns for each cell its key (as `KEYS`) and its gradients' RMS (seeds, convolutions)."""
    columns = [table[name].tolist() for name in KEYS]
    keys = list(zip(*columns, strict=True))
    codes = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    code_of = np.array([codes[key] for key in keys])
    found = []
    for key, code in codes.items():
        rows = {name: column[code_of == code] for name, column in table.items()}
        scales = pivot(rows, "seed", "depth")[2]
        found.append((key, scales[:, :-1]))  # the classifier is no convolution
    return found


@functools.cache
def theory(key: tuple, *, textbook: bool = False) -> Prediction:
    """Returns the prediction for a cell; a textbook's leaves out padding and pooling."""
    net, init, norm, activation, pooling, data, batch_size = key
    size = IMAGE_SIZES.get(data, 32)
    return predict(
        resolve_stages(net, WIDE_STAGES if net == WIDE else None),
        init,
        norm=norm,
        activation=activation,
        pooling=None if textbook else pooling,
        image_size=None if textbook else size,
        batch_size=None if textbook else batch_size,
    )


def decay(scales: np.ndarray) -> tuple[float, float, float]:
    """Returns first over last convolution: geometric mean over seeds and its 95% interval."""
    mean, half = mean_interval(np.log(scales[:, 0] / scales[:, -1]))
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))


def write_decays(out: Path, gradients: Table) -> None:
    """Writes decay.md: first over last convolution and a layer, measured and predicted."""
    head = [*KEYS, "seeds", "measured", "95% interval", "predicted", "measured / predicted"]
    head += ["a layer, measured", "a layer, predicted", "textbook"]
    lines = []
    for key, scales in sorted(groups(gradients), key=lambda group: group[0]):
        measured, low, high = decay(scales)
        predicted, textbook = theory(key), theory(key, textbook=True)
        gaps = scales.shape[1] - 1
        lines.append(
            [
                *key,
                len(scales),
                f"{measured:.3g}",
                f"{low:.3g} to {high:.3g}",
                f"{predicted.backward:.3g}",
                f"{measured / predicted.backward:.2f}",
                f"{measured ** (1 / gaps):.3f}",
                f"{predicted.backward ** (1 / gaps):.3f}",
                f"{textbook.backward:.3g}",
            ]
        )
    (out / "decay.md").write_text(markdown(head, lines))


# What is asked of two cells: how many times larger the second's decay is. Their other keys: ReLU,
# no norm, pooling by stride.
COMPARISONS = (
    ("C against D, std 0.01", ("C", "paper"), ("D", "paper"), "noise", 16),
    ("C against D, std 0.01, 224 pixels", ("C", "paper"), ("D", "paper"), "noise-224px", 2),
    ("He fan-out against fan-in, net D", ("D", "he_fan_out"), ("D", "he_fan_in"), "noise", 16),
    ("std 0.01 against He fan-in, net B", ("B", "paper"), ("B", "he_fan_in"), "noise", 16),
)


def write_comparisons(out: Path, gradients: Table) -> None:
    """Writes comparisons.md: ratios of two cells' decays, measured, predicted, in textbooks."""
    cells = dict(groups(gradients))
    head = ["question", "measured", "95% interval", "predicted", "textbook"]
    lines = []
    for question, first, second, data, batch_size in COMPARISONS:
        keys = [(*cell, "none", "relu", "none", data, batch_size) for cell in (first, second)]
        if not all(key in cells for key in keys):
            continue
        logs = [np.log(cells[key][:, 0] / cells[key][:, -1]) for key in keys]
        if first[0] == second[0]:  # seed by seed the same weights, up to their scale
            mean, half = mean_interval(logs[1] - logs[0])
        else:
            (low, low_half), (high, high_half) = map(mean_interval, logs)
            mean, half = high - low, float(np.hypot(low_half, high_half))
        predicted, textbook = (
            theory(keys[1], textbook=plain).backward / theory(keys[0], textbook=plain).backward
            for plain in (False, True)
        )
        interval = f"{np.exp(mean - half):.4g} to {np.exp(mean + half):.4g}"
        lines.append(
            [question, f"{np.exp(mean):.4g}", interval, f"{predicted:.4g}", f"{textbook:.4g}"]
        )
    (out / "comparisons.md").write_text(markdown(head, lines))


def write_descents(out: Path, table: Table) -> None:
    """Writes after_sgd.md: loss, and first over last convolution, after steps of SGD."""
    head = ["net", "init", "norm", "pooling", "data", "width", "rate", "step", "seeds", "loss"]
    head += ["first / last convolution", "95% interval", "a layer"]
    names = ("net", "init", "norm", "pooling", "data", "width", "learning_rate", "step")
    keys = dict.fromkeys(zip(*(table[name].tolist() for name in names), strict=True))
    lines = []
    for key in keys:
        rows = select(table, **dict(zip(names, key, strict=True)))
        scales = pivot(select(rows, quantity=GRADIENT), "seed", "depth")[2][:, :-1]
        losses = select(rows, quantity="loss")["value"]
        measured, low, high = decay(scales)
        interval = f"{low:.3g} to {high:.3g}" if len(scales) > 1 else ""
        growth = f"{measured ** (1 / (scales.shape[1] - 1)):.3f}"
        lines.append(
            [*key, len(scales), f"{losses.mean():.4g}", f"{measured:.3g}", interval, growth]
        )
    (out / "after_sgd.md").write_text(markdown(head, lines))


# --- Figures -------------------------------------------------------------------------------------


def by_layer(path: Path, gradients: Table) -> None:
    """Gradient RMS against layer, one panel a net, a line an initialiser."""
    cells = groups(gradients)
    nets = [net for net in NETS if net in set(gradients["net"].tolist())]
    if not nets:
        return
    columns = min(len(nets), 3)
    rows = -(-len(nets) // columns)
    with figure(path, 4.2 * columns, 3.1 * rows + 0.9) as drawing:
        grid = drawing.subplots(rows, columns, squeeze=False)
        for axes, net in itertools.zip_longest(grid.flat, nets):
            if net is None:
                axes.set_axis_off()
                continue
            for key, scales in cells:
                if key[0] == net:
                    _one_line(axes, key, scales)
            axes.set(title=f"net {net}", xlabel="convolution, input to output", yscale="log")
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


def by_initialiser(path: Path, gradients: Table) -> None:
    """Layer x initialiser heat maps of the gradient's RMS, for net D with and without norm."""
    chosen = select(gradients, net="D", data="noise", batch_size=16)
    cells = dict(groups(chosen))
    norms = [norm for norm in ("none", "batch") if norm in {key[2] for key in cells}]
    if not norms:
        return
    with figure(path, 11, 3.4 * len(norms)) as drawing:
        for axes, norm in zip(
            drawing.subplots(len(norms), 1, squeeze=False).flat, norms, strict=True
        ):
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
    """Growth a layer with batch norm, along the wide network and against the number of samples."""
    cells = sorted(groups(wide), key=lambda group: group[0][-1])
    with figure(path, 10, 4) as drawing:
        along, against = drawing.subplots(1, 2)
        for color, (key, scales) in zip(COLORS, cells, strict=False):
            samples = 4 * key[-1]
            growth = scales[:, :-2] / scales[:, 1:-1]
            x = np.arange(1, growth.shape[1] + 1)
            band(along, x, growth, color=color, marker=".", label=f"{samples} samples")
            settled = np.log(scales[:, SETTLED] / scales[:, -2]) / (scales.shape[1] - 2 - SETTLED)
            mean, half = mean_interval(settled)
            against.errorbar(
                samples,
                np.exp(mean),
                [[np.exp(mean) - np.exp(mean - half)], [np.exp(mean + half) - np.exp(mean)]],
                color=color,
                marker="o",
                capsize=3,
            )
        x = np.geomspace(6, 2000, 100)
        against.plot(
            x, [batch_norm_growth(n) for n in x], color="black", linewidth=0.7, label="theory"
        )
        against.axhline(batch_norm_growth(), color="black", linewidth=0.7, linestyle=":")
        along.axhline(batch_norm_growth(), color="black", linewidth=0.7, linestyle=":")
        along.set_xticks(range(2, growth.shape[1] + 1, 2))
        along.set(xlabel="layer", ylabel="growth of RMS of dL/dz a layer, backwards")
        along.legend()
        against.set(
            xlabel="samples a channel is normalised over",
            ylabel=f"growth a layer, mean of layers past the {SETTLED}th",
            xscale="log",
        )
        against.legend(title="dotted: infinitely many,\nsqrt(pi / (pi - 1)) = 1.211")
