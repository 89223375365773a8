"""Tables and the figure, from what is stored; predictions beside the measurements."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from experiments.depth_limit.nets import AROUND, CONVOLUTIONS, KINDS
from experiments.trainability.cells import TARGET
from vgg_jax.probes.block_theory import block_gradients, block_variances
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, read_table, select

GRADIENTS, VARIANCES = "gradients.csv.gz", "variances.csv.gz"
RUNS, LESIONS = "runs.csv", "lesions.csv"
COLUMNS = {
    GRADIENTS: ("kind", "layers", "channels", "seed", "block", "value"),
    VARIANCES: ("kind", "layers", "channels", "seed", "block", "first", "second"),
    RUNS: (
        "kind",
        "layers",
        "seed",
        "relative_rate",
        "rate",
        "chosen",
        "loss",
        "accuracy",
        "steps_to_fast",
    ),
    LESIONS: ("kind", "layers", "seed", "block", "layer", "intact", "accuracy"),
}
SIDE = 8  # of the maps in the blocks
# He et al. (2016), arXiv 1512.03385: top-1 error on ImageNet, from secondary sources.
PUBLISHED = {
    "plain, batch norm": {18: 27.94, 34: 28.54},
    "residual, batch norm": {18: 27.88, 34: 25.03},
}
MARKS = {"circle": "o", "square": "s", "triangle": "^"}  # of the widths


def write(out: Path) -> None:
    """Writes table.md and the figure from what `out` stores."""
    gradients, variances = read_table(out / GRADIENTS), read_table(out / VARIANCES)
    runs, lesions = read_table(out / RUNS), read_table(out / LESIONS)
    parts = [
        growths(gradients, variances),
        divisors(variances),
        by_depth(runs, "test accuracy [%] (first step over weights)", accuracy_cell),
        by_depth(runs, "steps to 80% of the training images", speed_cell),
        removals(lesions),
        published(),
    ]
    (out / "table.md").write_text("\n".join(parts))
    with figure(out / "depth", 10, 7.6) as drawing:
        (profile, growth), (accuracy, lesion) = drawing.subplots(2, 2)
        draw_profiles(profile, gradients)
        draw_growths(growth, gradients)
        draw_accuracies(accuracy, runs)
        draw_lesions(lesion, lesions)
        handles, labels = accuracy.get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside lower center", ncols=3)


def blocks_of(layers: int) -> int:
    """Returns the number of blocks of a net."""
    return (layers - AROUND) // CONVOLUTIONS


def normalized(kind: str) -> bool:
    """Returns whether a kind of net has batch norm."""
    return KINDS[kind].get("norm") == "batch"


def predicted(
    kind: str, layers: int, side: int | None = SIDE, variances: np.ndarray | None = None
) -> np.ndarray:
    """Returns the closed form of dL/dx over the last one's, at the ends of the blocks."""
    fields = dict(KINDS[kind])
    if fields.pop("fixup", False):  # the branches hand on nothing, forwards or backwards
        return np.ones(blocks_of(layers) + 1)
    return block_gradients(blocks_of(layers), image_size=side, variances=variances, **fields)


def growth_from_variances(table: Table, kind: str, layers: str, channels: str) -> np.ndarray:
    """Returns ln(first dL/dx over the last one's) by the variances of each seed: (seeds,)."""
    found = select(table, kind=kind, layers=layers, channels=channels)
    pairs = np.stack([found["first"].astype(float), found["second"].astype(float)], axis=-1)
    by_seed = pairs.reshape(-1, blocks_of(int(layers)), 2)
    growth = [predicted(kind, int(layers), variances=variances)[0] for variances in by_seed]
    return np.log(growth)


def cells(table: Table, *names: str) -> list[tuple[Any, ...]]:
    """Returns the distinct entries of some columns, numbers and `KINDS` in order."""
    kinds = list(KINDS)

    def rank(entries: tuple[Any, ...]) -> list[int]:
        return [kinds.index(entry) if entry in kinds else int(entry) for entry in entries]

    return sorted(set(zip(*(table[name].tolist() for name in names), strict=True)), key=rank)


def profile_of(table: Table, kind: str, layers: str, channels: str) -> np.ndarray:
    """Returns ln(dL/dx over the last one's) of each seed: (seeds, blocks + 1)."""
    found = select(table, kind=kind, layers=layers, channels=channels)
    values = np.log(found["value"]).reshape(-1, blocks_of(int(layers)) + 1)
    return values - values[:, -1:]


def growths(table: Table, variances: Table) -> str:
    """Returns the table of the gradient before the first block over that behind the last."""
    rows = []
    for channels, layers, kind in cells(table, "channels", "layers", "kind"):
        logs = profile_of(table, kind, layers, channels)[:, 0]
        mean, spread = mean_interval(logs)
        interval = f"{np.exp(mean - spread):.3g} to {np.exp(mean + spread):.3g}"
        theory = [predicted(kind, int(layers), side)[0] for side in (SIDE, None)]
        numbers = [f"{value:.3g}" for value in (np.exp(mean), *theory)]
        given = ["-", "-"]
        if normalized(kind):
            found = growth_from_variances(variances, kind, layers, channels)
            worst = np.exp(np.abs(found - logs).max()) - 1
            given = [f"{np.exp(found.mean()):.3g}", f"{worst:.0%}"]
        rows.append([kind, layers, channels, numbers[0], interval, *numbers[1:], *given])
    head = ["gradient, first over last", "layers", "channels", "measured", "95% interval"]
    head += ["predicted", "without borders", "with the variances measured", "worst draw off by"]
    return markdown(head, rows, "lrrrrrrrr")


def divisors(table: Table) -> str:
    """Returns the table of the variances along the deepest nets, and of the closed form."""
    layers = max(table["layers"].tolist(), key=int)
    blocks = blocks_of(int(layers))
    places = np.unique(np.linspace(0, blocks - 1, 6).astype(int))
    rows = []
    for (kind,) in cells(table, "kind"):
        residual = KINDS[kind].get("residual", False)
        theory = block_variances(blocks, residual=residual, image_size=SIDE)[places, 0]
        rows.append([f"{kind}, {layers} layers", "predicted", *(f"{v:.3g}" for v in theory)])
        of_kind = select(table, kind=kind, layers=layers)
        for (channels,) in cells(of_kind, "channels"):
            found = select(of_kind, channels=channels)["first"].astype(float)
            by_seed = found.reshape(-1, blocks)[:, places]
            values = ["{:.3g} ± {:.2g}".format(*mean_interval(column)) for column in by_seed.T]
            rows.append(["", f"{channels} channels", *values])
    head = ["variance that batch norm divides by", "", *(f"block {place + 1}" for place in places)]
    return markdown(head, rows, "ll" + "r" * len(places))


def by_depth(table: Table, what: str, cell: Callable[[Table, str, str], str]) -> str:
    """Returns a table of a line per kind and a column per depth."""
    depths = [layers for (layers,) in cells(table, "layers")]
    rows = [
        [kind, *(cell(table, kind, layers) for layers in depths)]
        for (kind,) in cells(table, "kind")
    ]
    return markdown([what, *(f"{d} layers" for d in depths)], rows, "l" + "r" * len(depths))


def accuracy_cell(table: Table, kind: str, layers: str) -> str:
    """Returns the test accuracy of the seeds at the chosen rate, and how many reached `TARGET`."""
    found = trained(table, kind, layers)
    if not len(found["seed"]):
        return "-"
    values = found["accuracy"].astype(float)
    mean, spread = mean_interval(100 * values)
    text = f"{mean:.1f} ± {spread:.1f} ({found['relative_rate'][0]})"
    learned = np.sum(values >= TARGET)
    return text if learned == len(values) else f"{text}, {learned} of {len(values)} seeds"


def speed_cell(table: Table, kind: str, layers: str) -> str:
    """Returns the mean of the steps until 80% of the training images were right."""
    steps = trained(table, kind, layers)["steps_to_fast"].astype(float)
    there = np.isfinite(steps)
    text = f"{np.mean(steps[there]):.0f}" if there.any() else "-"
    return text if there.all() and len(steps) else f"{text} ({there.sum()} of {len(steps)} seeds)"


def trained(table: Table, kind: str, layers: str) -> Table:
    """Returns the runs at the best rate, without that which chose it."""
    found = select(table, kind=kind, layers=layers, chosen="1")
    others = found["seed"] != 0
    return {name: column[others] for name, column in found.items()}


def removals(table: Table) -> str:
    """Returns the table of what is left without one layer, one block, or all blocks."""
    rows = []
    for layers, kind in cells(table, "layers", "kind"):
        found = select(table, kind=kind, layers=layers)
        by_seed = [select(found, seed=seed) for seed in np.unique(found["seed"])]
        intact = [lost["intact"][:1].astype(float) for lost in by_seed]
        line = [kind, layers, shown(intact, np.mean)]
        ones = [str(block) for block in range(1, blocks_of(int(layers)) + 1)]
        for what in (["0"], ["1", "2"]):
            left = [select(lost, layer=what, block=ones)["accuracy"] for lost in by_seed]
            line += [shown(left, np.mean), shown(left, np.min)]
        bare = [select(lost, block="0")["accuracy"] for lost in by_seed]
        rows.append([*line, shown(bare, np.mean) if len(bare[0]) else "-"])
    head = ["test accuracy [%]", "layers", "intact", "without a block, mean", "worst"]
    head += ["without a layer, mean", "worst", "without all blocks"]
    return markdown(head, rows, "lrrrrrrr")


def shown(by_seed: list[np.ndarray], summary: Callable[[np.ndarray], float]) -> str:
    """Returns mean and interval over seeds, in per cent, of a summary of each seed's shares."""
    values = np.array([summary(100 * shares.astype(float)) for shares in by_seed])
    return "{:.1f} ± {:.1f}".format(*mean_interval(values))


def published() -> str:
    """Returns the published errors that these nets are compared with in shape."""
    rows = [
        [kind, *(f"{error:.2f}" for error in errors.values())] for kind, errors in PUBLISHED.items()
    ]
    return markdown(["ImageNet top-1 error [%], He et al. (2016)", "18", "34"], rows, "lrr")


def draw_profiles(axes: Axes, table: Table) -> None:
    """Draws the gradient along the widest and deepest trained net, predictions dashed."""
    channels, layers = widest(table), deepest(table)
    for color, kind in zip(COLORS, KINDS, strict=False):
        logs = profile_of(table, kind, layers, channels)
        places = np.arange(logs.shape[1])
        axes.semilogy(places, np.exp(logs.mean(0)), color=color)
        axes.semilogy(places, predicted(kind, int(layers)), "--", color=color, linewidth=1)
    axes.set_xlabel("block")
    axes.set_ylabel("gradient over the last one's")
    axes.set_title(f"start, {layers} layers of {channels} channels; dashed: predicted", fontsize=9)


def draw_growths(axes: Axes, table: Table) -> None:
    """Draws the growth over the depth, for every width, predictions dashed."""
    depths = sorted({int(layers) for layers in table["layers"]})
    widths = sorted({int(channels) for channels in table["channels"]})
    for color, kind in zip(COLORS, KINDS, strict=False):
        for channels, marker in zip(widths, MARKS.values(), strict=False):
            means = [
                np.exp(profile_of(table, kind, str(d), str(channels))[:, 0].mean()) for d in depths
            ]
            axes.loglog(depths, means, marker, color=color, markersize=4)
        axes.loglog(depths, [predicted(kind, d)[0] for d in depths], "--", color=color, linewidth=1)
    axes.set_xticks(depths, depths, minor=False)
    axes.set_xlabel("layers")
    axes.set_ylabel("first gradient over last")
    shown = ", ".join(f"{mark}: {n}" for mark, n in zip(MARKS, widths, strict=False))
    axes.set_title(f"channels: {shown}; dashed: predicted", fontsize=9)


def draw_accuracies(axes: Axes, table: Table) -> None:
    """Draws the test accuracy over the depth."""
    depths = [layers for (layers,) in cells(table, "layers")]
    for color, kind in zip(COLORS, KINDS, strict=False):
        found = [100 * trained(table, kind, d)["accuracy"].astype(float) for d in depths]
        axes.plot(list(map(int, depths)), [f.mean() for f in found], color=color, label=kind)
        for depth, values in zip(depths, found, strict=True):
            axes.plot([int(depth)] * len(values), values, ".", color=color, alpha=0.5)
    axes.set_xlabel("layers")
    axes.set_ylabel("test accuracy [%]")
    axes.set_title("trained, dots: seeds", fontsize=9)


def draw_lesions(axes: Axes, table: Table) -> None:
    """Draws the accuracy without each block."""
    for layers, kind in cells(table, "layers", "kind"):
        found = select(table, kind=kind, layers=layers, layer="0")
        places = range(1, blocks_of(int(layers)) + 1)
        means = [
            100 * select(found, block=str(place))["accuracy"].astype(float).mean()
            for place in places
        ]
        axes.plot(places, means, "o-", color=COLORS[list(KINDS).index(kind)], markersize=4)
        axes.set_title(f"{layers} layers, one block taken out after training", fontsize=9)
    axes.set_xlabel("block")
    axes.set_ylabel("test accuracy [%]")


def widest(table: Table) -> str:
    """Returns the largest number of channels."""
    return max(table["channels"].tolist(), key=int)


def deepest(table: Table) -> str:
    """Returns the largest number of layers below a hundred."""
    return max((n for n in set(table["layers"].tolist()) if int(n) < 100), key=int)
