"""Tables of ln |J u|^2 and of singular values."""

from collections.abc import Iterator

import numpy as np

from experiments.signal_theory.gains import ENDS, ONE_PIXEL, predicted, widths
from experiments.signal_theory.parts import interval, numbers
from experiments.signal_theory.spectra import predicted_spread
from vgg_jax.probes.jacobian import gaussian_product_edge
from vgg_jax.runs.tables import Table, markdown, mean_interval, select


def centred(table: Table, net: str, end: str) -> np.ndarray:
    """Returns ln(|J u|^2 / E|J u|^2) of every seed; of a real net over the mean of the seeds."""
    values = select(table, net=net, end=end)["value"]
    return values if net in ONE_PIXEL else values - np.log(np.mean(np.exp(values)))


def variance_interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the variance of a sample and half its interval: Student's, on squared deviations."""
    count = len(values)
    return mean_interval((values - values.mean()) ** 2 * count / (count - 1))


def gains(table: Table) -> Iterator[str]:
    """Yields the table of the variance, and that of the mean."""
    nets = list(dict.fromkeys(table["net"].tolist()))
    cells = [(net, end) for end in ENDS for net in nets]
    of_variance, of_mean = [], []
    for net, end in cells:
        values = centred(table, net, end)
        leading, exact = predicted(net, end)
        inverse = f"{sum(1 / n for n in widths(net)):.3g}"
        names = [net, end, inverse]
        middle, half = variance_interval(values)
        measured = interval(middle, half)
        ratio = interval(middle / exact.variance, half / exact.variance)
        of_variance.append(
            [*names, measured, f"{leading.variance:.3g}", f"{exact.variance:.3g}", ratio]
        )
        means = f"{leading.mean:.3g}", f"{exact.mean:.3g}"
        skewness = np.mean((values - values.mean()) ** 3) / np.std(values) ** 3
        of_mean.append([*names, interval(*mean_interval(values)), *means, f"{skewness:.2f}"])
    head = ["net", "J ends at", "sum of 1/n"]
    variance = ["variance of ln", "5 sum(1/n), and 2/m", "exact", "measured over exact"]
    yield markdown([*head, *variance], of_variance, "llrrrrr")
    mean = ["mean of ln", "-2.5 sum(1/n), and -1/m", "exact", "skewness"]
    yield markdown([*head, *mean], of_mean, "llrrrrr")


def values_of(table: Table, quantity: str, **cell: str) -> np.ndarray:
    """Returns a quantity of every seed of a cell."""
    return select(table, quantity=quantity, **cell)["value"]


def edge(table: Table) -> Iterator[str]:
    """Yields the largest squared singular value of linear Gaussian nets."""
    sizes = numbers(table["width"])
    rows = []
    for layers in numbers(table["layers"]):
        law = gaussian_product_edge(int(layers))
        measured = [
            interval(*mean_interval(values_of(table, "largest", layers=layers, width=width) ** 2))
            for width in sizes
        ]
        widest = values_of(table, "largest", layers=layers, width=sizes[-1]) ** 2
        rows.append([layers, *measured, f"{law:.4g}", f"{np.mean(widest) / law:.3f}"])
    head = ["linear, layers", *(f"width {width}" for width in sizes), "(L+1)^(L+1) / L^L"]
    yield markdown([*head, "widest over law"], rows, "r" * (len(head) + 1))


def spread(table: Table) -> Iterator[str]:
    """Yields relative variances and largest singular values by depth."""
    depths = numbers(table["layers"])
    nets = list(dict.fromkeys(table["net"].tolist()))
    rows = []
    for net in nets:
        width = int(table["width"][0])
        law = [predicted_spread(net, int(depth), width) for depth in depths]
        rows.append([net, "measured", *_by_depth(table, "relative_variance", net)])
        rows.append([net, "predicted", *(f"{value:.3g}" for value in law)])
    head = ["relative variance of squares", "", *(f"{depth} layers" for depth in depths)]
    yield markdown(head, rows, "ll" + "r" * len(depths))
    names = {
        "largest_over_rms": "largest singular value over RMS",
        "share_small": "share of singular values below 1% of the largest",
    }
    for quantity, name in names.items():
        rows = [[net, *_by_depth(table, quantity, net)] for net in nets]
        head = [name, *(f"{depth} layers" for depth in depths)]
        yield markdown(head, rows, "l" + "r" * len(depths))


def _by_depth(table: Table, quantity: str, net: str) -> list[str]:
    return [
        interval(*mean_interval(values_of(table, quantity, net=net, layers=depth)))
        for depth in numbers(select(table, net=net)["layers"])
    ]


def stack(table: Table) -> Iterator[str]:
    """Yields the singular values of net D's convolutions."""
    nets = list(dict.fromkeys(table["net"].tolist()))
    quantities = {
        "RMS": "rms",
        "largest over RMS": "largest_over_rms",
        "relative variance of squares": "relative_variance",
        "share that is 1": "share_of_ones",
        "share that is 0": "share_of_zeros",
        "farthest from 1": "farthest_from_one",
    }
    rows = []
    for net in nets:
        cells = [mean_interval(values_of(table, q, net=net)) for q in quantities.values()]
        rows.append([net, *(interval(m, h) if h > 1e-4 * m else f"{m:.3g}" for m, h in cells)])
    yield markdown(["thirteen convolutions", *quantities], rows, "l" + "r" * len(quantities))
