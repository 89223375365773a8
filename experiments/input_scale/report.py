"""Tables and the figure, from the stored runs."""

import itertools
from pathlib import Path

import numpy as np

from experiments.trainability.cells import TARGET
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, read_table, select

TABLE = "runs.csv"
COLUMNS = (
    "net",
    "std",
    "scale",
    "product",
    "learning_rate",
    "seed",
    "step",
    "accuracy",
    "loss",
    "gradient_norm",
    "outcome",
)
NUMBERS = ("std", "scale", "product", "accuracy", "gradient_norm")
SCALES = (1.0, 58.0)


def write(path: Path, out: Path) -> None:
    """Writes table.md and input_scale.png from the runs at `path`."""
    table = read_table(path)
    table |= {name: table[name].astype(float) for name in NUMBERS}
    nets, stds, products = (
        list(dict.fromkeys(table[name].tolist())) for name in ("net", "std", "product")
    )
    best = []
    for net, std in itertools.product(nets, stds):
        for scale in SCALES:
            cells = select(table, net=net, std=std, scale=scale)
            chosen = max(products, key=lambda p: accuracies(cells, p).mean())
            found = accuracies(cells, chosen)
            mean, interval = mean_interval(100 * found)
            best.append(
                [
                    net,
                    f"{std:g}",
                    f"{scale:g}",
                    f"{chosen / scale**2:.1g}",
                    f"{mean:.1f} ± {interval:.1f}" if len(found) > 1 else f"{mean:.1f}",
                    f"{np.sum(found >= TARGET)} of {len(found)}",
                ]
            )
    head = ["net", "standard deviation", "input scale", "best rate", "accuracy, %", "trained"]
    (out / "table.md").write_text(
        "\n".join(
            [
                markdown(head, best, "lrrrrr"),
                markdown(
                    ["quantity", "predicted", "measured"], [*gradients(table), *collapse(table)]
                ),
            ]
        )
    )
    draw(table, nets, stds, out / "input_scale")


def accuracies(cells: Table, product: float) -> np.ndarray:
    """Returns the accuracies at a product of rate and squared scale, one per seed."""
    return select(cells, product=product)["accuracy"]


def by_start(table: Table, scale: float, column: str) -> np.ndarray:
    """Returns a column of one scale in the order of net, deviation, seed, product."""
    cells = select(table, scale=scale)
    order = np.lexsort([cells[name] for name in ("product", "seed", "std", "net")])
    return cells[column][order]


def gradients(table: Table) -> list[list[str]]:
    """Returns how much longer the first gradient is at the larger scale, by deviation."""
    small, large = SCALES
    ratio = by_start(table, large, "gradient_norm") / by_start(table, small, "gradient_norm")
    stds = by_start(table, small, "std")
    return [
        [
            f"gradient norm at scale {large:g} over that at 1, deviation {std:g}",
            f"{large / small:g}",
            f"{ratio[stds == std].min():.3g} to {ratio[stds == std].max():.3g}",
        ]
        for std in sorted(set(stds.tolist()))
    ]


def collapse(table: Table) -> list[list[str]]:
    """Returns how often both scales give the same verdict at one product of rate and scale**2."""
    one, other = (by_start(table, scale, "accuracy") >= TARGET for scale in SCALES)
    same = int((one == other).sum())
    return [
        ["runs that train at one scale and not at the other, equal rate * scale^2", "0", ""],
        ["of all", "", f"{len(one) - same} of {len(one)}"],
        ["of those that train at either", "", f"{len(one) - same} of {int((one | other).sum())}"],
    ]


def draw(table: Table, nets: list[str], stds: list[float], path: Path) -> None:
    """Draws accuracy over rate * scale^2; colours are deviations, dashes the larger scale."""
    with figure(path, 2.6 * len(nets) + 1, 3.4) as drawing:
        panels = drawing.subplots(1, len(nets), sharey=True, squeeze=False)[0]
        for axes, net in zip(panels, nets, strict=True):
            for std, color in zip(stds, COLORS, strict=False):
                for scale, dash in zip(SCALES, ("-", "--"), strict=True):
                    cells = select(table, net=net, std=std, scale=scale)
                    products = sorted(set(cells["product"].tolist()))
                    means = [100 * accuracies(cells, product).mean() for product in products]
                    label = f"{std:g}, scale {scale:g}" if axes is panels[0] else None
                    axes.plot(products, means, dash, color=color, label=label)
            axes.set_xscale("log")
            axes.set_title(f"net {net}")
            axes.set_xlabel("rate x scale²")
        panels[0].set_ylabel("test accuracy [%]")
        drawing.legend(loc="outside lower center", ncols=4, title="standard deviation, input scale")
