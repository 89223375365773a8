"""The tables of what is stored, with theory beside it."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.signal_theory import matrix_tables
from experiments.signal_theory.correlations import followed
from experiments.signal_theory.parts import PARTS, by_seed, interval, numbers
from experiments.signal_theory.presets import BIAS_VARIANCE
from vgg_jax.probes.mean_field import TanhMeanField, relu_distance, relu_norm_length
from vgg_jax.probes.theory import relu_correlation
from vgg_jax.runs.tables import Table, markdown, mean_interval, read_table, select

TRAINED = 0.5  # accuracy on test images
RULE = 6  # correlation lengths


def write(out: Path) -> str:
    """Returns the tables of what is stored in `out` as Markdown."""
    written = {
        "tanh": lengths,
        "relu": relu,
        "training": training,
        "gains": matrix_tables.gains,
        "edge": matrix_tables.edge,
        "spread": matrix_tables.spread,
        "stack": matrix_tables.stack,
    }
    return "\n".join(
        table
        for part, make in written.items()
        if (out / PARTS[part].file).exists()
        for table in make(read_table(out / PARTS[part].file))
    )


# --- Correlation lengths -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Length:
    """Of one variance: layers in which D falls by a factor e.

    Attributes:
      variance: of the weights, times the fan-in.
      predicted: at the fixed point.
      fitted: the fit that is made to measurements, made to the map of infinite width.
      measured: by width, with the ends of the 95% interval.
    """

    variance: float
    predicted: float
    fitted: float
    measured: dict[int, tuple[float, float, float]]


def correlation_lengths(table: Table) -> Iterator[Length]:
    """Yields the lengths of each variance.

    The rate, 1 / length, is the slope of ln(mean of D over the nets) against the layer; its
    interval is Student's on the jackknife's pseudo-values.
    """
    for variance in numbers(table["variance"]):
        measured = {}
        for width in numbers(table["width"]):
            gaps = by_seed(select(table, variance=variance, width=width))
            whole, count = _rate(gaps), len(gaps)
            without = [_rate(np.delete(gaps, seed, 0)) for seed in range(count)]
            rate, half = mean_interval(count * whole - (count - 1) * np.array(without))
            highest = 1 / (rate - half) if rate > half else math.inf
            measured[int(width)] = 1 / rate, 1 / (rate + half), highest
        theory = TanhMeanField(float(variance), BIAS_VARIANCE)
        starts, layers = followed(theory)
        far, near = (_iterated(theory, start, layers) for start in starts)
        fitted = 1 / _rate((far - near)[None])
        yield Length(float(variance), theory.correlation_length, fitted, measured)


def _rate(gaps: np.ndarray) -> float:
    return -float(np.polyfit(np.arange(gaps.shape[1]), np.log(gaps.mean(0)), 1)[0])


def _iterated(theory: TanhMeanField, start: float, layers: int) -> np.ndarray:
    """1 - c after 0, 1, ... layers at infinite width."""
    distances = [start]
    for _ in range(layers):
        distances.append(1 - theory.correlation(1 - distances[-1]))
    return np.array(distances)


def lengths(table: Table) -> Iterator[str]:
    """Yields the table of correlation lengths."""
    rows = []
    for length in correlation_lengths(table):
        ordered = TanhMeanField(length.variance, BIAS_VARIANCE).slope(1) < 1
        cells = [
            f"{middle:.3g} [{low:.3g}, {high:.3g}]"
            for middle, low, high in length.measured.values()
        ]
        predicted = f"{length.predicted:.3g}", f"{length.fitted:.3g}"
        phase = "ordered" if ordered else "chaotic"
        rows.append([f"{length.variance:g}", phase, *predicted, *cells])
    widths = [f"width {width}" for width in numbers(table["width"])]
    head = ["tanh, variance", "phase", "fixed point", "map, same fit", *widths]
    yield markdown(head, rows, "rlrrrr")


# --- ReLU --------------------------------------------------------------------------------------


def exact_relu_distances(layers: int) -> np.ndarray:
    """Returns 1 - c after 0, 1, ... layers from uncorrelated inputs, by iterating the map."""
    c = [np.array(0.0)]
    for _ in range(layers):
        c.append(relu_correlation(c[-1]))
    return 1 - np.array(c)


def local_lengths(distances: np.ndarray, layer: int) -> float:
    """Layers in which 1 - c would fall by e at the pace it has around a layer."""
    low, high = layer * 4 // 5, layer * 6 // 5
    return float((high - low) / np.log(distances[low] / distances[high]))


def relu(table: Table) -> Iterator[str]:
    """Yields the tables of ReLU's correlations, of their pace, and of the norm."""
    deepest = int(table["depth"].max())
    exact = exact_relu_distances(deepest)
    shown = [layer for layer in (1, 5, 10, 20, 40, 80) if layer * 6 // 5 <= deepest]
    widest = numbers(table["width"])[-1]
    found = select(table, quantity="distance", width=widest)
    means = {
        variance: by_seed(select(found, variance=variance))
        for variance in numbers(found["variance"])
    }
    head = ["ReLU, 1 - c after layers", *map(str, shown)]
    rows = [
        [f"variance {name}", *(interval(*mean_interval(d[:, layer])) for layer in shown)]
        for name, d in means.items()
    ]
    rows.append(["map, any variance", *(f"{exact[layer]:.3g}" for layer in shown)])
    law = [f"{relu_distance(layer):.3g}" for layer in shown]
    yield markdown(head, [*rows, ["9 pi^2 / (2 layers^2)", *law]], "l" + "r" * len(shown))

    late = [layer for layer in shown if layer >= 10]
    rows = [
        [f"variance {name}", *(f"{local_lengths(d.mean(0), layer):.3g}" for layer in late)]
        for name, d in means.items()
    ]
    rows.append(["map, any variance", *(f"{local_lengths(exact, layer):.3g}" for layer in late)])
    rows.append(["layers / 2", *(f"{layer / 2:g}" for layer in late)])
    head = ["ReLU, local length of 1 - c around layer", *map(str, late)]
    yield markdown(head, rows, "l" + "r" * len(late))

    rows = []
    squares = select(table, quantity="log_square")
    for variance in numbers(squares["variance"]):
        predicted = relu_norm_length(float(variance))
        row = [variance, f"{predicted:.4g}"]
        for width in numbers(squares["width"]):
            values = by_seed(select(squares, variance=variance, width=width))
            slopes = (values[:, -1] - values[:, 0]) / deepest
            expected = np.log(float(variance) / 2) - 5 / (2 * int(width))
            row += [interval(*mean_interval(slopes), 4), f"{expected:.4g}"]
        rows.append(row)
    head = ["ReLU, variance", "1 / abs(ln(var / 2))"]
    for width in numbers(squares["width"]):
        head += [f"slope of ln of the square, width {width}", "ln(var / 2) - 5 / (2 width)"]
    yield markdown(head, rows, "r" * len(head))


# --- Depth that trains -------------------------------------------------------------------------


def accuracies(table: Table) -> tuple[list[str], list[str], np.ndarray]:
    """Returns variances, depths and accuracies (variances, depths, seeds) at the chosen rates."""
    chosen = select(table, chosen="1")
    variances, depths = numbers(chosen["variance"]), numbers(chosen["layers"])
    values = [
        [
            select(chosen, variance=variance, layers=depth)["accuracy"].astype(float)
            for depth in depths
        ]
        for variance in variances
    ]
    return variances, depths, np.array(values)


def deepest_trained(depths: list[str], accuracy: np.ndarray) -> float:
    """Returns the depth at which accuracy (depths,) first falls below `TRAINED`, interpolated.

    Infinite if it does not fall below, and 0 if it starts below.
    """
    below = np.flatnonzero(accuracy < TRAINED)
    if not len(below) or below[0] == 0:
        return 0.0 if len(below) else float("inf")
    last = below[0]
    pair = accuracy[last], accuracy[last - 1]
    return float(np.interp(TRAINED, pair, (float(depths[last]), float(depths[last - 1]))))


def training(table: Table) -> Iterator[str]:
    """Yields accuracies by variance and depth, and the depth that trains against the rule."""
    variances, depths, values = accuracies(table)
    rows = [
        [variance, *(interval(*mean_interval(100 * cell)) for cell in line)]
        for variance, line in zip(variances, values, strict=True)
    ]
    head = ["test accuracy [%], variance", *(f"{depth} layers" for depth in depths)]
    yield markdown(head, rows, "r" * len(head))
    rows = []
    for variance, line in zip(variances, values, strict=True):
        length = TanhMeanField(float(variance), BIAS_VARIANCE).correlation_length
        reached = np.array([deepest_trained(depths, seed) for seed in line.T])
        row = [variance, f"{length:.3g}", f"{RULE * length:.3g}"]
        if np.isfinite(reached).all():
            ratio = interval(*mean_interval(reached / length))
            rows.append([*row, interval(*mean_interval(reached)), ratio])
        else:
            count = f"{np.isinf(reached).sum()} of {len(reached)} seeds"
            ratio = float(depths[-1]) / length
            rows.append([*row, f"{depths[-1]} or more in {count}", f"{ratio:.3g} or more"])
    head = ["variance", "correlation length", f"{RULE} lengths", "depth that trains", "in lengths"]
    yield markdown(head, rows, "rrrrr")
