"""Tables and the figure, from what is stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.receptive_field.presets import BUDGETS, PAIRS, STACKS
from vgg_jax.json_files import read_json
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.tables import Table, markdown, mean_interval, read_table, select

COSTS, START, VGG19, TRAINING = "stacks.csv", "start.csv", "vgg19.csv", "training.csv"
COST_COLUMNS = ("field", "stack", "layers", "parameters_over_c2", "macs_over_c2")
_SEEN = ("field", "predicted", "squared", "predicted_magnitude", "magnitude")
START_COLUMNS = ("net", "layer", "seed", *_SEEN)
VGG19_COLUMNS = ("state", "layer", "seed", *_SEEN)
TRAINING_COLUMNS = (
    "pair",
    "net",
    "budget",
    "seed",
    "width",
    "parameters",
    "macs",
    "field",
    "predicted",
    "steps",
    "top1",
    "loss",
    "train_loss",
    "before",
    "after",
    "lrn_variation",
)


def draw(out: Path) -> None:
    """Writes table.md and receptive_field.png."""
    costs, start = read_table(out / COSTS), read_table(out / START)
    trained = read_table(out / TRAINING)
    vgg19 = read_table(out / VGG19) if (out / VGG19).exists() else None
    parts = [cost_table(costs, start), start_table(start)]
    if vgg19 is not None:
        parts.append(vgg19_table(vgg19))
    parts += [seen_table(trained), accuracy_table(trained), ratio_table(trained, out)]
    (out / "table.md").write_text("\n".join(parts))
    with figure(out / "receptive_field", 11, 3.8) as drawing:
        left, middle, right = drawing.subplots(1, 3)
        draw_start(left, start)
        draw_training(middle, trained, vgg19)
        draw_accuracy(right, trained)


def cost_table(costs: Table, start: Table) -> str:
    """Returns what a stack costs beside what it sees at initialisation."""
    lines = []
    for i, stack in enumerate(costs["stack"]):
        rows = select(start, net=stack)
        lines.append(
            [
                f"{costs['field'][i]} x {costs['field'][i]}",
                f"{costs['layers'][i]} of {stack[0]} x {stack[0]}",
                f"{float(costs['parameters_over_c2'][i]):g}",
                f"{float(costs['macs_over_c2'][i]):g}",
                f"{float(rows['predicted'][0]):.2f}",
                interval(rows["squared"]),
            ]
        )
    head = ["field [pixels]", "stack", "parameters [C^2]", "multiply-adds [C^2 per position]"]
    return markdown([*head, "predicted spread", "measured"], lines, "llrrrr")


def start_table(start: Table) -> str:
    """Returns the paper's nets at initialisation."""
    stacks = {stack for stacks in STACKS.values() for stack in stacks}
    lines = []
    for net in dict.fromkeys(start["net"].tolist()):
        if net not in stacks:
            rows = select(start, net=net)
            magnitude = f"{float(rows['predicted_magnitude'][0]):.2f}", interval(rows["magnitude"])
            lines.append([net, rows["layer"][0], rows["field"][0], *seen(rows), *magnitude])
    head = ["net", "layer", "field [pixels]", "predicted spread", "measured"]
    return markdown([*head, "of the magnitude, predicted", "measured"], lines, "llrrrrr")


def vgg19_table(table: Table) -> str:
    """Returns VGG-19 before and after ImageNet."""
    lines = []
    for layer in dict.fromkeys(table["layer"].tolist()):
        before = select(table, layer=layer, state="untrained")
        after = select(table, layer=layer, state="trained")
        lines.append([layer, before["field"][0], *seen(before), interval(after["squared"])])
    head = ["VGG-19", "field [pixels]", "predicted spread", "untrained", "trained on ImageNet"]
    return markdown(head, lines, "lrrrr")


def seen_table(trained: Table) -> str:
    """Returns what the last convolutions of the trained pairs see, before and after."""
    lines = []
    for pair, _, rows in _cells(trained, ("first", "equal width")):
        grown = np.asarray(rows["after"], float) / np.asarray(rows["before"], float)
        lines.append(
            [
                pair,
                rows["net"][0],
                rows["field"][0],
                f"{float(rows['predicted'][0]):.1f}",
                *(interval(rows[name], "{:.1f}") for name in ("before", "after")),
                interval(grown),
            ]
        )
    head = ["pair", "net", "field [pixels]", "predicted spread", "before training", "after"]
    return markdown([*head, "after / before"], lines, "llrrrrr")


def accuracy_table(trained: Table) -> str:
    """Returns test accuracy under every budget, and the difference to the first net by seed."""
    lines = []
    for pair, budget, rows in _cells(trained, ("first", *BUDGETS)):
        first = select(trained, pair=pair, budget="first")
        gain = 100 * (np.asarray(rows["top1"], float) - np.asarray(first["top1"], float))
        lines.append(
            [
                pair,
                rows["net"][0],
                "" if budget == "first" else budget,
                f"{int(rows['parameters'][0]):,}",
                f"{int(rows['macs'][0]) / 1e6:.2f}",
                rows["steps"][0],
                interval(100 * np.asarray(rows["top1"], float), "{:.1f}"),
                "" if budget == "first" else interval(gain, "{:+.1f}"),
            ]
        )
    head = ["pair", "net", "budget", "parameters", "million multiply-adds", "steps"]
    return markdown([*head, "top-1 [%]", "over the first, by seed"], lines, "lllrrrrr")


def ratio_table(trained: Table, out: Path) -> str:
    """Returns the time of a training step of both nets of each pair."""
    lines = []
    for name in dict.fromkeys(trained["pair"].tolist()):
        timed = read_json(out / ratio_file(name))
        low, high = min(timed["ratios"]), max(timed["ratios"])
        lines.append(
            [
                name,
                " and ".join(dict.fromkeys(select(trained, pair=name)["net"].tolist())),
                *timed["milliseconds"],
                f"{timed['ratio']:.2f}",
                f"{low:.2f} to {high:.2f}",
            ]
        )
    head = ["pair", "nets", "first [ms a step]", "second", "first / second", "range of the rounds"]
    return markdown(head, lines, "llrrrr")


def ratio_file(pair: str) -> str:
    """Returns the name of the file of a pair's times."""
    return f"ratio_{pair.replace(' ', '_')}.json"


def seen(rows: Table) -> list[str]:
    """Returns the predicted and the measured spread in pixels."""
    return [f"{float(rows['predicted'][0]):.2f}", interval(rows["squared"])]


def interval(values: Sequence[Any] | np.ndarray, form: str = "{:.2f}") -> str:
    """Returns mean and 95% interval of a sample."""
    mean, half = mean_interval(np.asarray(values, float))
    return f"{form.format(mean)} ± {form.replace('+', '').format(half)}"


def draw_start(axes: Any, start: Table) -> None:
    """Draws measured over predicted spread at initialisation."""
    ends = np.array([1, 45])
    axes.plot(ends, ends, color=COLORS[7], linewidth=1)
    for name, marker, label in (
        ("squared", "o", "squared gradient"),
        ("magnitude", "s", "its root"),
    ):
        prediction = "predicted" if name == "squared" else "predicted_magnitude"
        axes.plot(
            start[prediction].astype(float),
            start[name].astype(float),
            marker,
            markersize=4,
            label=label,
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="predicted spread [pixels]",
        ylabel="measured [pixels]",
        title="at initialisation",
    )
    axes.legend()


def draw_training(axes: Any, trained: Table, vgg19: Table | None) -> None:
    """Draws the spread before and after training, each pair of points joined."""
    rows = [
        (rows["net"][0] + (" bn" if "bn" in pair else ""), rows["before"], rows["after"])
        for pair, _, rows in _cells(trained, ("first", "equal width"))
    ]
    if vgg19 is not None:
        for layer in dict.fromkeys(vgg19["layer"].tolist()):
            states = (
                select(vgg19, layer=layer, state=state)["squared"]
                for state in ("untrained", "trained")
            )
            rows.append((f"VGG-19 {layer}", *states))
    for place, (_, before, after) in enumerate(rows):
        for values, color in ((before, COLORS[5]), (after, COLORS[0])):
            values = np.asarray(values, float)
            axes.plot(values, np.full(len(values), place), "o", markersize=4, color=color)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="spread [pixels]", title="before training (orange), after (blue)")


def draw_accuracy(axes: Any, trained: Table) -> None:
    """Draws the difference in accuracy to the first net of each pair, with 95% intervals."""
    names = [name for name in PAIRS if name in trained["pair"]]
    for index, budget in enumerate(BUDGETS):
        points = []
        for place, pair in enumerate(names):
            rows = select(trained, pair=pair, budget=budget)
            if len(rows["top1"]):
                first = select(trained, pair=pair, budget="first")["top1"].astype(float)
                mean, half = mean_interval(100 * (rows["top1"].astype(float) - first))
                points.append((place + 0.2 * (index - 1), mean, half))
        where, means, halves = zip(*points, strict=True)
        axes.errorbar(where, means, halves, fmt="o", capsize=3, label=budget)
    axes.axhline(0, color=COLORS[7], linewidth=1)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="points of top-1", title="second net over first")
    axes.legend(fontsize=8)


def _cells(trained: Table, budgets: Sequence[str]) -> list[tuple[str, str, Table]]:
    """Returns (pair, budget, rows by seed) of what was trained."""
    found = []
    for pair in dict.fromkeys(trained["pair"].tolist()):
        for budget in budgets:
            rows = select(trained, pair=pair, budget=budget)
            if len(rows["pair"]):
                found.append((pair, budget, rows))
    return found
