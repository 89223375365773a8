"""Heat maps of layer x step, loss and accuracy beside them, from the stored tables."""

import json
from pathlib import Path

import numpy as np

from vgg_jax.reporting.plots import COLORS, figure, heat_map
from vgg_jax.runs.directory import LAYERS_FILE, METRICS_FILE
from vgg_jax.runs.tables import (
    COLUMNS,
    Table,
    markdown,
    pivot,
    read_table,
    select,
    table_rows,
    write_table,
)

LAYERS_TABLE = "layers.csv.gz"
CURVES_TABLE = "curves.csv.gz"
GRADIENT = "activation_grad_rms"
CURVES = ("train/loss", "eval/top1")
FAINTEST = 1e-12  # smaller values, zero included, are drawn as this


def gather(out: Path) -> None:
    """Collects the tables and metrics of the runs in `out`/runs into two tables."""
    layers, curves = [], []
    for workdir in sorted((out / "runs").iterdir()):
        rows = table_rows(read_table(workdir / LAYERS_FILE))
        layers += rows
        for line in (workdir / METRICS_FILE).read_text().splitlines():
            values = json.loads(line)
            curves += [
                rows[0]
                | {"step": values["step"], "layer": "all", "depth": 0}
                | {"quantity": name, "value": values[name]}
                for name in CURVES
                if name in values
            ]
    write_table(out / LAYERS_TABLE, layers)
    write_table(out / CURVES_TABLE, curves, COLUMNS)


def draw(out: Path) -> None:
    """Draws a figure per net, and writes the table of the ends of all runs."""
    layers, curves = read_table(out / LAYERS_TABLE), read_table(out / CURVES_TABLE)
    for net in dict.fromkeys(layers["net"].tolist()):
        draw_net(out / f"net_{net}", select(layers, net=net), select(curves, net=net))
    write_ends(out, layers, curves)


def runs(layers: Table) -> list[dict[str, str]]:
    """Returns net, norm and init of every run in a table."""
    names = ("net", "norm", "init")
    keys = dict.fromkeys(zip(*(layers[name].tolist() for name in names), strict=True))
    return [dict(zip(names, key, strict=True)) for key in keys]


def draw_net(path: Path, layers: Table, curves: Table) -> None:
    """Draws a column per run: the gradient's RMS by layer and step, over loss and accuracy."""
    found = runs(layers)
    maps = [np.log10(np.maximum(gradient_map(layers, run)[2], FAINTEST)) for run in found]
    limits = (
        min(m[np.isfinite(m)].min() for m in maps),
        max(m[np.isfinite(m)].max() for m in maps),
    )
    with figure(path, 3.6 * len(found) + 1, 6.5) as drawing:
        top, bottom = drawing.subplots(
            2, len(found), squeeze=False, gridspec_kw={"height_ratios": (2, 1)}
        )
        for axes, below, run, values in zip(top, bottom, found, maps, strict=True):
            steps = gradient_map(layers, run)[1]
            names = layer_names(select(layers, **run))
            heat_map(axes, values, names, steps, label="log10 of RMS of dL/dz", limits=limits)
            norm = "batch norm" if run["norm"] == "batch" else "no norm"
            axes.set(title=f"net {run['net']}, {norm}, {run['init']}", xlabel="step")
            every = -(-len(steps) // 8)
            axes.set_xticks(range(0, len(steps), every), steps[::every])
            axes.tick_params(labelsize=7)
            for color, name in zip(COLORS, CURVES, strict=False):
                curve = select(curves, **run, quantity=name)
                side = below if name == "train/loss" else below.twinx()
                side.plot(curve["step"], curve["value"], color=color, marker=".")
                side.set_ylabel(
                    "training loss [nats]" if name == "train/loss" else "test accuracy",
                    color=color,
                )
                side.grid(False)
                if name == "eval/top1":
                    side.set_ylim(0, 1)
                    side.spines["right"].set_visible(True)
            losses = select(curves, **run, quantity="train/loss")["value"]
            below.set(xlabel="step", ylim=(0, 1.1 * losses.max(initial=1.0)))


def gradient_map(layers: Table, run: dict[str, str]) -> tuple[np.ndarray, ...]:
    """Returns depths, steps and the gradient's RMS (depths, steps) of a run."""
    return pivot(select(layers, **run, quantity=GRADIENT), "depth", "step")


def layer_names(layers: Table) -> list[str]:
    """Returns the names of the layers, input to output."""
    pairs = set(zip(layers["depth"].tolist(), layers["layer"].tolist(), strict=True))
    return [layer for depth, layer in sorted(pairs) if depth > 0]


def write_ends(out: Path, layers: Table, curves: Table) -> None:
    """Writes runs.md: gradient, first over last convolution, at both ends of a run, and scores."""
    head = ["net", "norm", "init", "first / last convolution, at step 0", "at the last probe"]
    head += ["median update ratio", "training loss", "test accuracy"]
    lines = []
    for run in runs(layers):
        _, steps, values = gradient_map(layers, run)
        # The classifier has no batch norm: compare convolutions.
        convolutions = [i for i, n in enumerate(layer_names(select(layers, **run))) if n[0] == "c"]
        ratio = values[convolutions[0]] / values[convolutions[-1]]
        updates = pivot(select(layers, **run, quantity="update_ratio"), "depth", "step")[2]
        last = {name: select(curves, **run, quantity=name)["value"][-1:] for name in CURVES}
        lines.append(
            [
                *run.values(),
                f"{ratio[0]:.2g}",
                f"{ratio[-1]:.2g} (step {steps[-1]})",
                f"{np.median(updates[:, -1]):.1g}",
                *(f"{x[0]:.3g}" if len(x) else "" for x in last.values()),
            ]
        )
    (out / "runs.md").write_text(markdown(head, lines))
