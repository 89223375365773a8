"""What theory predicts of correlations, fluctuations and singular values, beside signal_theory."""

from collections.abc import Iterator

from experiments.scoreboard.ours import ROOT
from experiments.scoreboard.rows import Measured, Row
from experiments.signal_theory.gains import ENDS, ONE_PIXEL, predicted
from experiments.signal_theory.matrix_tables import centred, values_of, variance_interval
from experiments.signal_theory.parts import PARTS, by_seed, numbers
from experiments.signal_theory.presets import BIAS_VARIANCE
from experiments.signal_theory.spectra import predicted_spread
from experiments.signal_theory.tables import correlation_lengths, exact_relu_distances
from vgg_jax.probes.jacobian import gaussian_product_edge
from vgg_jax.runs.tables import Table, read_table, select

RESULTS = "experiments/signal_theory/results/full"
CHOSEN = "after"
FINITE = "the law is that of infinite width"
CHANCE = "one interval in twenty misses by chance"


def signal_rows() -> Iterator[Row]:
    """Yields a row per prediction that signal_theory measured."""
    yield from _tanh_lengths(*_stored("tanh"))
    yield from _relu_correlations(*_stored("relu"))
    yield from _fluctuations(*_stored("gains"))
    yield from _edges(*_stored("edge"))
    yield from _spreads(*_stored("spread"))


def _stored(part: str) -> tuple[Table, str]:
    file = f"{RESULTS}/{PARTS[part].file}"
    return read_table(ROOT / file), file


def _row(
    quantity: str, source: str, theirs: float, tolerance: str, ours: Measured, reason: str = FINITE
) -> Row:
    kind = "theory" if theirs else "identity"  # orthogonal matrices multiply to an orthogonal one
    return Row(quantity, kind, source, theirs, tolerance, CHOSEN, ours, reason)


def _tanh_lengths(table: Table, file: str) -> Iterator[Row]:
    nets = len(set(table["seed"].tolist()))
    for length in correlation_lengths(table):
        width = max(length.measured)
        yield _row(
            f"correlation length of tanh nets, layers: weight variance {length.variance:g}, "
            f"width {width}",
            f"Schoenholz et al. 2017; mean_field.TanhMeanField, bias variance {BIAS_VARIANCE}",
            length.predicted,
            "10%",
            Measured(*length.measured[width], nets, file),
        )


def _relu_correlations(table: Table, file: str) -> Iterator[Row]:
    exact = exact_relu_distances(int(table["depth"].max()))
    width = numbers(table["width"])[-1]
    found = select(table, quantity="distance", width=width)
    for variance in numbers(found["variance"]):
        values = by_seed(select(found, variance=variance))
        for layer in (5, 20, 80):
            yield _row(
                f"1 - correlation of two inputs after {layer} ReLU layers from 1: weight variance "
                f"{variance}, width {width}",
                "theory.relu_correlation, the same at every variance",
                float(exact[layer]),
                "10%",
                Measured.mean(values[:, layer], file),
            )


def _fluctuations(table: Table, file: str) -> Iterator[Row]:
    for net in ONE_PIXEL:
        for end in ENDS:
            values = centred(table, net, end)
            _, exact = predicted(net, end)
            middle, half = variance_interval(values)
            source = "Hanin & Nica 2018; jacobian.log_norm at this width"
            for name, theirs, ours in (
                (
                    "variance",
                    exact.variance,
                    Measured(middle, middle - half, middle + half, len(values), file),
                ),
                ("mean", exact.mean, Measured.mean(values, file)),
            ):
                quantity = f"{name} of ln(|Ju|^2 / E|Ju|^2), He's start, net {net}, to its {end}"
                yield _row(quantity, source, theirs, "10%", ours, CHANCE)


def _edges(table: Table, file: str) -> Iterator[Row]:
    width = numbers(table["width"])[-1]
    for layers in numbers(table["layers"]):
        largest = values_of(table, "largest", layers=layers, width=width)
        yield _row(
            f"largest squared singular value, {layers} linear Gaussian layers of width {width}",
            "Fuss-Catalan law, (L+1)^(L+1) / L^L",
            gaussian_product_edge(int(layers)),
            "5%",
            Measured.mean(largest**2, file),
        )


def _spreads(table: Table, file: str) -> Iterator[Row]:
    width = int(table["width"][0])
    for net in dict.fromkeys(table["net"].tolist()):
        for layers in numbers(select(table, net=net)["layers"]):
            theirs = predicted_spread(net, int(layers), width)
            yield _row(
                f"relative variance of squared singular values: {net}, {layers} layers of width "
                f"{width}",
                "free probability; Pennington et al. 2017, Xiao et al. 2018",
                theirs,
                "10%" if theirs else "0.000001",
                Measured.mean(values_of(table, "relative_variance", net=net, layers=layers), file),
            )
