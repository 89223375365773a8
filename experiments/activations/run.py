"""Compares ReLU, tanh and sigmoid at equal gain: gradients, saturation, and what trains.

    python -m experiments.activations.run [--preset=quick|full] [--out=DIR]
    python -m experiments.activations.run --redraw [--preset=quick|full] [--out=DIR]

Every net starts from LSUV, which gives every layer pre-activations of variance 1 whatever the
activation, and trains on the embedded digits at several learning rates, without batch norm. The
same command resumes. Writes activations.csv.gz, table.md, activations.png and record.json.
"""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.init_gradients.measure import initialized
from experiments.trainability.cells import load, network, programs
from vgg_jax.cli import run_command
from vgg_jax.reporting.plots import COLORS, figure
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import (
    Table,
    markdown,
    mean_interval,
    pivot,
    read_table,
    select,
    table_rows,
    tidy_rows,
    write_table,
)
from vgg_jax.xla import enable_compilation_cache

ACTIVATIONS = ("relu", "tanh", "sigmoid")
SHOWN = ("activation_grad_rms", "saturation_fraction", "preactivation_rms")
COLUMNS = (
    *("net", "activation", "learning_rate", "seed", "step"),
    *("layer", "depth", "quantity", "value"),
)
TABLE = "activations.csv.gz"


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is trained: every net, activation and rate, from every seed."""

    nets: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: int
    width: float
    steps: int
    batch_size: int


PRESETS = {
    "quick": Preset(("A",), (0.01, 0.1), 3, 1 / 8, 60, 32),
    "full": Preset(("A", "D"), (0.003, 0.01, 0.03, 0.1, 0.3), 3, 1 / 8, 200, 32),
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    arguments = parser.parse_args(argv)
    out = arguments.out
    if not arguments.redraw:
        enable_compilation_cache()
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        measure(PRESETS[arguments.preset], out / TABLE)
        record.write()
    table = read_table(stored(out / TABLE))
    (out / "table.md").write_text(tables(table))
    draw(table, out / "activations")
    return 0


def measure(preset: Preset, path: Path) -> None:
    """Trains the runs that the table at `path` lacks, and writes it after each."""
    rows = table_rows(read_table(path)) if path.exists() else []
    keys = ("net", "activation", "seed")
    done = {(*(row[key] for key in keys), float(row["learning_rate"])) for row in rows}
    for net, activation, seed, rate in itertools.product(
        preset.nets, ACTIVATIONS, range(preset.seeds), preset.rates
    ):
        if (net, activation, seed, rate) in done:
            continue
        found = train(net, activation, seed, rate, preset)
        rows += found
        write_table(path, rows, COLUMNS)
        accuracy = found[-1]["value"]
        print(f"{net}, {activation}, seed {seed}, rate {rate:g}: {accuracy:.1%}", flush=True)


def train(net: str, activation: str, seed: int, rate: float, preset: Preset) -> list[dict]:
    """Trains a net; returns tidy rows of its layers before and after, and of its accuracy."""
    batches, test_batch = load(preset.steps, preset.batch_size, seed)
    model = network(net, "none", preset.width).clone(activation=activation)
    run, probe, evaluate = programs(model)
    variables = initialized(model.clone(kernel_init="lsuv"), seed, batches[0]["image"])
    variables = {"params": variables["params"], "batch_stats": {}}
    constants: dict[str, Any] = {"net": net, "activation": activation}
    constants |= {"learning_rate": rate, "seed": seed}
    rows = []
    for step in (0, preset.steps):
        measured = jax.device_get(probe(variables, batches[0]))
        kept = {quantity: measured[quantity] for quantity in SHOWN}
        rows += tidy_rows(kept, model.layer_names, step=step, **constants)
        if not step:
            variables, _ = run(variables, rate, batches)
    accuracy = {"accuracy": {"all": evaluate(variables, test_batch)}}
    return rows + tidy_rows(accuracy, model.layer_names, step=preset.steps, **constants)


def best_rate(table: Table, net: str, activation: str) -> str:
    """Returns the rate of the best mean accuracy, as it is written."""
    chosen = select(table, net=net, activation=activation, quantity="accuracy")
    return max(
        sorted(set(chosen["learning_rate"]), key=float),
        key=lambda rate: select(chosen, learning_rate=rate)["value"].mean(),
    )


def by_layer(table: Table, net: str, activation: str, step: int, quantity: str) -> np.ndarray:
    """Returns a quantity of each layer at the best rate, (seeds, layers)."""
    rate = best_rate(table, net, activation)
    cell = {"net": net, "activation": activation, "learning_rate": rate, "step": step}
    return pivot(select(table, quantity=quantity, **cell), "seed", "depth")[2]


def tables(table: Table) -> str:
    """Returns accuracy by rate, and what the layers do at the start and at the end."""
    nets = list(dict.fromkeys(table["net"].tolist()))
    rates = sorted(set(table["learning_rate"]), key=float)
    lines = []
    for net, activation in itertools.product(nets, ACTIVATIONS):
        chosen = select(table, net=net, activation=activation, quantity="accuracy")
        cells = [mean_interval(100 * select(chosen, learning_rate=rate)["value"]) for rate in rates]
        lines.append([net, activation, *(f"{mean:.1f} +- {half:.1f}" for mean, half in cells)])
    parts = ["Test accuracy [%] by learning rate, mean and 95% interval over the seeds:\n"]
    parts.append(markdown(["net", "activation", *rates], lines, "ll" + "r" * len(rates)))

    lines, last = [], int(table["step"].max())
    for net, activation in itertools.product(nets, ACTIVATIONS):
        gradient = by_layer(table, net, activation, 0, "activation_grad_rms")[:, :-3]
        mean, half = mean_interval(np.log(gradient[:, 0] / gradient[:, -1]))
        saturation = [
            by_layer(table, net, activation, step, "saturation_fraction").mean()
            for step in (0, last)
        ]
        ratio = f"{np.exp(mean):.2g} [{np.exp(mean - half):.2g}, {np.exp(mean + half):.2g}]"
        shares = [f"{share:.0%}" for share in saturation]
        lines.append([net, activation, best_rate(table, net, activation), ratio, *shares])
    head = ["net", "activation", "best rate", "gradient, first over last convolution"]
    head += ["saturated at the start", "at the end"]
    parts.append("At the best rate; saturated: slope below 5% of the steepest, mean of layers:\n")
    parts.append(markdown(head, lines, "llrlrr"))
    return "\n".join(parts)


def draw(table: Table, path: Path) -> None:
    """Draws gradients, saturation and accuracy of the deepest net."""
    net = list(dict.fromkeys(table["net"].tolist()))[-1]
    last = int(table["step"].max())
    with figure(path, width=11, height=3.6) as drawing:
        gradients, saturation, accuracy = drawing.subplots(1, 3)
        for color, activation in zip(COLORS, ACTIVATIONS, strict=False):
            scales = by_layer(table, net, activation, 0, "activation_grad_rms")
            depth = np.arange(1, scales.shape[1] + 1)
            relative = scales / scales[:, -1:]
            gradients.plot(depth, np.exp(np.log(relative).mean(0)), color=color, label=activation)
            for step, line in ((0, "-"), (last, "--")):
                shares = by_layer(table, net, activation, step, "saturation_fraction")
                label = f"{activation}, step {step}"
                saturation.plot(depth[:-1], shares.mean(0), line, color=color, label=label)
            chosen = select(table, net=net, activation=activation, quantity="accuracy")
            _, rates, values = pivot(chosen, "seed", "learning_rate")
            order = np.argsort(rates.astype(float))
            drawn = 100 * values[:, order]
            x = rates.astype(float)[order]
            accuracy.plot(x, drawn.mean(0), "o-", color=color, label=activation)
            accuracy.fill_between(x, drawn.min(0), drawn.max(0), color=color, alpha=0.25)
        gradients.set(yscale="log", title="gradient RMS over the classifier's, start")
        saturation.set(title="share of saturated units")
        accuracy.set(xscale="log", xlabel="learning rate", title="test accuracy [%]")
        for axes in (gradients, saturation):
            axes.set_xlabel("layer")
            axes.legend(fontsize=7)
        drawing.suptitle(f"net {net}, LSUV", fontsize=10)


if __name__ == "__main__":
    run_command(main)
