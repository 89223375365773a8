"""Tables of measurement beside theory: decays, ratios, growth, steps of SGD."""

import functools
from pathlib import Path

import numpy as np

from experiments.init_gradients.grid import IMAGE_CHANNELS, IMAGE_SIZES, WIDE_STAGES
from vgg_jax.models.variants import resolve_stages
from vgg_jax.probes.theory import SignalPrediction, batch_norm_growth, predict_signals
from vgg_jax.runs.tables import Table, markdown, mean_interval, pivot, select

KEYS = ("net", "init", "norm", "activation", "pooling", "data", "batch_size")
GRADIENT = "activation_grad_rms"
SETTLED = 8  # layers of a wide network after which its samples no longer correlate


def groups(table: Table) -> list[tuple[tuple, np.ndarray]]:
    """Returns for each cell its key (as `KEYS`) and its gradients' RMS (seeds, convolutions)."""
    keys = list(zip(*(table[name].tolist() for name in KEYS), strict=True))
    if not keys:
        return []
    codes = {key: code for code, key in enumerate(dict.fromkeys(keys))}
    code_of = np.array([codes[key] for key in keys])
    order = np.argsort(code_of, kind="stable")
    ends = np.cumsum(np.bincount(code_of))[:-1]
    found = []
    for key, rows in zip(codes, np.split(order, ends), strict=True):
        cell = {name: table[name][rows] for name in ("seed", "depth", "value")}
        scales = pivot(cell, "seed", "depth")[2]
        found.append((key, scales[:, :-1]))  # the classifier is no convolution
    return found


@functools.cache
def theory(key: tuple, *, textbook: bool = False) -> SignalPrediction:
    """Returns the prediction for a cell; a textbook's leaves out padding and pooling."""
    net, init, norm, activation, pooling, data, batch_size = key
    size = IMAGE_SIZES.get(data, 32)
    return predict_signals(
        resolve_stages(net, WIDE_STAGES.get(net)),
        init,
        norm=norm,
        activation=activation,
        pooling=None if textbook else pooling,
        image_size=None if textbook else size,
        batch_size=None if textbook else batch_size,
    )


def decay(scales: np.ndarray) -> tuple[float, float, float]:
    """Returns first over last convolution: geometric mean over seeds and its 95% interval."""
    return _geometric(scales[:, 0] / scales[:, -1])


def growth(scales: np.ndarray) -> tuple[float, float, float]:
    """Returns the growth per layer, backwards, after the first `SETTLED`: mean, 95% interval."""
    layers = scales.shape[1] - 2 - SETTLED  # the last has the classifier behind it
    return _geometric((scales[:, SETTLED] / scales[:, -2]) ** (1 / layers))


def _geometric(ratios: np.ndarray) -> tuple[float, float, float]:
    mean, half = mean_interval(np.log(ratios))
    return float(np.exp(mean)), float(np.exp(mean - half)), float(np.exp(mean + half))


def out_of_range(scales: np.ndarray) -> str:
    """Returns "overflow" or "underflow" if a cell's gradients do not fit float32, else ""."""
    if not np.isfinite(scales).all():
        return "overflow"
    return "" if scales.all() else "underflow"


def write_decays(path: Path, gradients: Table) -> None:
    """Writes every cell's gradient, first over last convolution: measured and predicted."""
    head = [*KEYS, "seeds", "measured", "95% interval", "predicted", "measured / predicted"]
    head += ["a layer, measured", "a layer, predicted", "textbook"]
    lines = []
    for key, scales in sorted(groups(gradients), key=lambda group: group[0]):
        predicted, textbook = theory(key), theory(key, textbook=True)
        gaps = scales.shape[1] - 1
        if out_of_range(scales):
            without = [out_of_range(scales), "", f"{predicted.backward:.3g}"]
            lines.append([*key, len(scales), *without, *[""] * 4])
            continue
        measured, low, high = decay(scales)
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
    path.write_text(markdown(head, lines))


# Pairs of cells: how many times larger is the decay of the second? Both have ReLU, no norm and
# pooling by stride.
COMPARISONS = (
    ("C against D, std 0.01", ("C", "paper"), ("D", "paper"), "noise", 16),
    ("C against D, std 0.01, 224 pixels", ("C", "paper"), ("D", "paper"), "noise-224px", 2),
    ("He fan-out against fan-in, net D", ("D", "he_fan_out"), ("D", "he_fan_in"), "noise", 16),
    ("std 0.01 against He fan-in, net B", ("B", "paper"), ("B", "he_fan_in"), "noise", 16),
)


def write_comparisons(path: Path, gradients: Table) -> None:
    """Writes ratios of two cells' decays: measured, predicted, in textbooks."""
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
    path.write_text(markdown(head, lines))


def write_agreement(path: Path, gradients: Table) -> None:
    """Writes measured over predicted decay: its range over nets and initialisers."""
    kinds: dict[tuple, list[tuple[float, str]]] = {}
    beyond: dict[tuple, int] = {}
    for key, scales in groups(gradients):
        net, init, *kind, _ = key
        if out_of_range(scales):
            beyond[tuple(kind)] = beyond.get(tuple(kind), 0) + 1
            continue
        ratio = decay(scales)[0] / theory(key).backward
        kinds.setdefault(tuple(kind), []).append((ratio, f"{net} {init}"))
    head = ["norm", "activation", "pooling", "data", "cells", "out of float32's range"]
    head += ["measured / predicted: least", "of", "median", "largest", "of"]
    lines = []
    for kind, ratios in sorted(kinds.items()):
        (least, of_least), (largest, of_largest) = min(ratios), max(ratios)
        median = np.median([ratio for ratio, _ in ratios])
        numbers = [f"{least:.3g}", of_least, f"{median:.3g}", f"{largest:.3g}", of_largest]
        lines.append([*kind, len(ratios), beyond.get(kind, 0), *numbers])
    path.write_text(markdown(head, lines))


def write_growths(path: Path, wide: Table) -> None:
    """Writes the growth per layer with batch norm, by width and number of samples."""
    head = ["channels", "of the images", "samples a channel", "seeds", "measured", "95% interval"]
    head += ["predicted"]
    lines = []
    for key, scales in groups(wide):
        measured, low, high = growth(scales)
        lines.append(
            [
                channels(key[0]),
                IMAGE_CHANNELS.get(key[5], 3),
                samples(key),
                len(scales),
                f"{measured:.3f}",
                f"{low:.3f} to {high:.3f}",
                f"{batch_norm_growth(samples(key)):.3f}",
            ]
        )
    path.write_text(markdown(head, sorted(lines)))


def channels(net: str) -> int:
    """Returns the width of a wide network."""
    return resolve_stages(net, WIDE_STAGES[net])[0][0].channels


def samples(key: tuple) -> int:
    """Returns the number of samples that a wide network's cell normalises a channel over."""
    return 4 * key[-1]


def write_descents(path: Path, table: Table) -> None:
    """Writes loss, and first over last convolution, after steps of SGD."""
    head = ["net", "init", "norm", "pooling", "data", "width", "rate", "step", "seeds", "loss"]
    head += ["first / last convolution", "95% interval", "a layer"]
    names = ("net", "init", "norm", "pooling", "data", "width", "learning_rate", "step")
    keys = dict.fromkeys(zip(*(table[name].tolist() for name in names), strict=True))
    lines = []
    for key in keys:
        rows = select(table, **dict(zip(names, key, strict=True)))
        scales = pivot(select(rows, quantity=GRADIENT), "seed", "depth")[2][:, :-1]
        losses = select(rows, quantity="loss")["value"]
        if not np.isfinite(losses).all():
            lines.append([*key, len(scales), "not finite", "", "", ""])
            continue
        measured, low, high = decay(scales)
        interval = f"{low:.3g} to {high:.3g}" if len(scales) > 1 else ""
        layer = f"{measured ** (1 / (scales.shape[1] - 1)):.3f}"
        lines.append(
            [*key, len(scales), f"{losses.mean():.4g}", f"{measured:.3g}", interval, layer]
        )
    path.write_text(markdown(head, lines))
