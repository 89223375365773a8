"""Tables and the figure, from the stored runs."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.trainability.cells import TARGET
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, select

RUNS, RATES = "runs.csv.gz", "rates.csv.gz"
COLUMNS = (
    *("net", "std", "scale", "biases", "product", "learning_rate", "seed", "step"),
    *("accuracy", "loss", "gradient_norm", "outcome"),
)
NUMBERS = ("std", "scale", "product", "learning_rate", "accuracy", "gradient_norm")
SCALES = (1.0, 58.0)


def write(runs: Table, rates: Table, out: Path) -> None:
    """Writes table.md and input_scale.png from the grid and from the search for rates."""
    runs, rates = numbers(runs), numbers(rates)
    tables = [best(runs), gradients(runs), collapse(runs), windows(rates), needed(runs, rates)]
    (out / "table.md").write_text("\n".join(tables))
    draw(rates, out / "input_scale")


def numbers(table: Table) -> Table:
    """Returns a table as it was read with its columns of numbers as such."""
    return table | {name: table[name].astype(float) for name in NUMBERS}


def distinct(table: Table, column: str) -> list:
    """Returns the entries of a column in order."""
    return np.unique(table[column]).tolist()


def best(runs: Table) -> str:
    """Returns the accuracy at the best rate of every net, input scale and deviation."""
    stds = distinct(runs, "std")
    rows = [
        [net, f"{scale:g}", *(best_cell(select(runs, net=net, scale=scale, std=s)) for s in stds)]
        for net, scale in itertools.product(distinct(runs, "net"), SCALES)
    ]
    return markdown(["net", "input scale", *(f"deviation {std:g}" for std in stds)], rows, "lr")


def best_cell(cells: Table) -> str:
    """Returns mean accuracy and rate of the best rate, and how many seeds trained."""
    found = {
        rate: select(cells, learning_rate=rate)["accuracy"]
        for rate in distinct(cells, "learning_rate")
    }
    rate = max(found, key=lambda r: found[r].mean())
    mean, interval = mean_interval(100 * found[rate])
    trained = np.sum(found[rate] >= TARGET)
    if not trained:
        return f"{mean:.0f}%"
    width = f" ± {interval:.0f}" if len(found[rate]) > 1 else ""
    return f"{mean:.0f}{width}% ({rate:.1g}), {trained} of {len(found[rate])}"


def gradients(runs: Table) -> str:
    """Returns how much longer the first gradient is at the larger scale, by deviation."""
    small, large = (by_start(runs, scale, "gradient_norm") for scale in SCALES)
    stds, ratio = by_start(runs, SCALES[0], "std"), large / small
    head = ["gradient norm at scale 58 over that at 1", "predicted", "least", "median", "most"]
    rows = [
        [
            f"deviation {std:g}",
            f"{SCALES[1] / SCALES[0]:g}",
            *(f"{np.quantile(ratio[stds == std], q):.3g}" for q in (0, 0.5, 1)),
        ]
        for std in distinct(runs, "std")
    ]
    return markdown(head, rows, "lrrrr")


def collapse(runs: Table) -> str:
    """Returns how often both scales give the same verdict at one product of rate and scale**2."""
    one, other = (by_start(runs, scale, "accuracy") >= TARGET for scale in SCALES)
    stds = by_start(runs, SCALES[0], "std")
    rows = []
    for name, chosen in [
        *((f"deviation {std:g}", stds == std) for std in distinct(runs, "std")),
        ("all", np.full(len(stds), True)),
    ]:
        a, b = one[chosen], other[chosen]
        counts = [len(a), np.sum(a == b), np.sum(a & b), np.sum(a & ~b), np.sum(b & ~a)]
        rows.append([name, *map(str, counts)])
    head = ["pairs at equal rate * scale^2", "pairs", "same verdict", "both train"]
    return markdown([*head, "only scale 1", "only scale 58"], rows, "lrrrrr")


def by_start(table: Table, scale: float, column: str) -> np.ndarray:
    """Returns a column of one scale in the order of net, deviation, seed, product."""
    cells = select(table, scale=scale)
    order = np.lexsort([cells[name] for name in ("product", "seed", "std", "net")])
    return cells[column][order]


def windows(rates: Table) -> str:
    """Returns the rates that train every start at every scale, and how they move.

    Relative numbers are a seed's own over those of the first start at its first scale. While logits
    are small, the smallest rate is predicted to go as deviation over gradient norm: a step then
    changes kernels, whose norm goes as the deviation, by the same share of themselves.
    """
    reference = edges(next(starts(rates))[1], min(rates["scale"]))
    rows = []
    for name, cells in starts(rates):
        for scale in distinct(cells, "scale"):
            found = edges(cells, scale)
            smallest, _, largest = found
            count = f"{np.isfinite(smallest).sum()} of {len(smallest)}"
            moved = map(span, found / reference)
            rows.append([name, f"{scale:g}", count, span(smallest), span(largest), *moved])
    head = ["start", "input scale", "seeds that train", "smallest rate", "largest rate"]
    relative = ["smallest, relative", "predicted", "largest, relative"]
    return markdown([*head, *relative], rows, "lrrrrrrr")


def needed(runs: Table, rates: Table) -> str:
    """Returns the smallest rate of the grid that trains, and its prediction.

    The prediction is that of `windows`: net A at its first start and scale gives the constant.
    """
    smallest, unit, _ = edges(next(starts(rates))[1], min(rates["scale"]))
    constant = geometric_mean(smallest / unit)
    stds = distinct(runs, "std")
    rows = []
    for net, scale in itertools.product(distinct(runs, "net"), SCALES):
        cells = []
        for std in stds:
            found, ratio, _ = edges(select(runs, net=net, std=std), scale)
            predicted = constant * geometric_mean(ratio)
            text = f"{predicted:.1g}" if np.isfinite(predicted) else "-"
            cells.append(f"{text}; {span(found)}")
        rows.append([net, f"{scale:g}", *cells])
    head = ["smallest rate: predicted; found", "input scale"]
    return markdown([*head, *(f"deviation {std:g}" for std in stds)], rows, "lr")


def starts(rates: Table) -> Iterator[tuple[str, Table]]:
    """Yields a name and the rows of every start that rates were searched for."""
    names = (rates[name].tolist() for name in ("net", "std", "biases"))
    for net, std, biases in dict.fromkeys(zip(*names, strict=True)):
        kind = "" if biases == "True" else ", biases stay 0"
        yield f"{net}, deviation {std:g}{kind}", select(rates, net=net, std=std, biases=biases)


def edges(cells: Table, scale: float) -> np.ndarray:
    """Returns what the rates that train have as limits: (3, seeds).

    The smallest rate that trains, the deviation over the norm of the first gradient, the largest
    rate that trains. Rates are NaN for a seed that none trains.
    """
    found = []
    at_scale = select(cells, scale=scale)
    for seed in distinct(at_scale, "seed"):
        run = select(at_scale, seed=seed)
        trained = run["learning_rate"][run["accuracy"] >= TARGET]
        least, most = (trained.min(), trained.max()) if len(trained) else (np.nan, np.nan)
        found.append((least, run["std"][0] / run["gradient_norm"][0], most))
    return np.array(found).T


def span(values: np.ndarray) -> str:
    """Returns geometric mean, least and most of what is not NaN; one number if all are alike."""
    found = [f"{value:.2g}" for value in np.sort(values[np.isfinite(values)])]
    if len(set(found)) < 2:
        return found[0] if found else "-"
    return f"{geometric_mean(values):.2g} ({found[0]} to {found[-1]})"


def geometric_mean(values: np.ndarray) -> float:
    """Returns the geometric mean of what is not NaN, NaN if nothing is."""
    found = values[np.isfinite(values)]
    return float(np.exp(np.log(found).mean())) if len(found) else float("nan")


def draw(rates: Table, path: Path) -> None:
    """Draws accuracy over rate, rate * scale and rate * scale^2; dashes are starts."""
    with figure(path, 9.5, 3.6) as drawing:
        panels = drawing.subplots(1, 3, sharey=True)
        for power, axes in enumerate(panels):
            for (name, cells), dash in zip(starts(rates), ("-", "--", ":"), strict=False):
                for scale, color in zip(distinct(rates, "scale"), COLORS, strict=False):
                    of_scale = select(cells, scale=scale)
                    tried = distinct(of_scale, "learning_rate")
                    mean = [
                        100 * select(of_scale, learning_rate=rate)["accuracy"].mean()
                        for rate in tried
                    ]
                    label = f"{name}, scale {scale:g}" if axes is panels[0] else None
                    axes.plot(np.array(tried) * scale**power, mean, dash, color=color, label=label)
            axes.set_xscale("log")
            axes.set_xlabel(("learning rate", "rate x scale", "rate x scale²")[power])
        panels[0].set_ylabel("test accuracy [%]")
        drawing.legend(loc="outside lower center", ncols=3, fontsize=8)
