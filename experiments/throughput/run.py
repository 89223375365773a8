"""Measures images per second of this project, plain Flax and PyTorch, in turn in one process.

    python -m experiments.throughput.run [--preset=quick|full] [--out=DIR]
    python -m experiments.throughput.run --redraw [--out=DIR]

quick: net D; full: nets A, D and E, with and without batch norm. Each at 32 and 224 pixels,
inference and training; float32 on a CPU, bfloat16 on an accelerator. PyTorch is measured if it is
installed, also with torch.compile. Writes throughput.json, the tables and the figure after every
workload; a workload that is stored in throughput.json is not measured again. `--redraw` (or
`--preset=figures`) only writes the tables and the figure again.
"""

import gc
import importlib.util
import itertools
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The allocators of JAX and PyTorch share one GPU: neither may take all of it at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp

from experiments.throughput.contestants import (
    Contestant,
    Workload,
    plain_flax,
    this_project,
    title,
    torch_compiled,
    torch_eager,
)
from experiments.throughput.multiplications import multiplications
from vgg_jax.cli import run_command
from vgg_jax.json_files import write_json
from vgg_jax.models import build_model
from vgg_jax.models.summary import summarize_model
from vgg_jax.reporting.plots import figure
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import record
from vgg_jax.runs.tables import markdown, markdown_line

PRESETS = {
    "quick": [("D", "none"), ("D", "batch")],
    "full": list(itertools.product("ADE", ("none", "batch"))),
}
SIZES = {"cpu": {32: 128, 224: 8}, "accelerator": {32: 2048, 224: 256}}
ROUNDS = {"cpu": 5, "accelerator": 30}
PRODUCT = {"cpu": 2048, "accelerator": 8192}  # rows, columns and depth of the reference product
CONTESTANTS: dict[str, Callable[[Workload, str], Contestant]] = {
    "vgg_jax": this_project,
    "plain Flax": plain_flax,
}
if importlib.util.find_spec("torch"):
    CONTESTANTS |= {"PyTorch eager": torch_eager, "torch.compile": torch_compiled}
REFERENCE = "PyTorch eager"


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(
        __file__, __doc__, presets=[*PRESETS, "figures"], redraw_word=("preset", "figures")
    )
    arguments = parser.parse_args(argv)
    path = arguments.out / "throughput.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    if not arguments.redraw:
        arguments.out.mkdir(parents=True, exist_ok=True)
        described = record(parser.module, argv) | torch_version()
        kind = "cpu" if jax.default_backend() == "cpu" else "accelerator"
        dtype = "float32" if kind == "cpu" else "bfloat16"
        done = {(r["net"], r["norm"], r["image_size"], r["mode"]) for r in rows}
        for mode, (net, norm), (size, batch) in itertools.product(
            ("train", "infer"), PRESETS[arguments.preset], SIZES[kind].items()
        ):
            if (net, norm, size, mode) in done:
                continue
            rows += measure(Workload(net, norm, size, batch, dtype), mode, kind)
            write_json(path, {"rows": rows} | described)
            write_results(rows, arguments.out)
    write_results(rows, stored(path).parent)
    return 0


def measure(work: Workload, mode: str, kind: str) -> list[dict[str, Any]]:
    """Times all contestants at one workload, in turn, round by round."""
    ready: dict[str, Contestant] = {}
    for name, make in CONTESTANTS.items():
        ready[name] = make(work, mode)
        ready[name].run()
    product = matrix_product(PRODUCT[kind], work.dtype)
    seconds: dict[str, list[float]] = {name: [] for name in [*ready, "product"]}
    runs = {name: contestant.run for name, contestant in ready.items()} | {"product": product}
    for _ in range(ROUNDS[kind]):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    flops = flops_per_image(work) * (3 if mode == "train" else 1)
    peak = 2 * PRODUCT[kind] ** 3 / min(seconds["product"])
    floor = 2 * multiplications(work, mode) / peak if kind == "cpu" else None
    rows = []
    for name, contestant in ready.items():
        rates = [work.batch_size / s for s in seconds[name]]
        median = statistics.median(rates)
        rows.append(
            {
                "net": work.net,
                "norm": work.norm,
                "image_size": work.image_size,
                "batch_size": work.batch_size,
                "dtype": work.dtype,
                "mode": mode,
                "contestant": name,
                "images_per_second": median,
                "slowest": min(rates),
                "fastest": max(rates),
                "flops_per_second": median * flops,
                "fraction_of_product": median * flops / peak,
                "product_flops_per_second": peak,
                "floor_seconds": floor if name == "vgg_jax" else None,
                "peak_bytes": contestant.peak_bytes,
                "compile_seconds": contestant.compile_seconds,
            }
        )
        print(markdown_line(cells(rows[-1], rows)), flush=True)
    del ready, runs
    gc.collect()
    return rows


def matrix_product(size: int, dtype: str) -> Callable[[], None]:
    """Returns a call that multiplies two square matrices."""
    matrix = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(jnp.dot)
    product(matrix, matrix).block_until_ready()
    return lambda: product(matrix, matrix).block_until_ready()


def flops_per_image(work: Workload) -> int:
    """Returns the FLOP of the forward pass: two per multiply-add of every layer with weights."""
    head = "imagenet" if work.image_size >= 224 else "cifar"
    config = {"variant": work.net, "head": head, "num_classes": work.head[-1]}
    return (
        2 * summarize_model(build_model(config, image_size=work.image_size), work.image_size).macs
    )


def torch_version() -> dict[str, Any]:
    """Returns version and threads of PyTorch, or None if it is not installed."""
    if not importlib.util.find_spec("torch"):
        return {"torch": None}
    import torch

    return {"torch": {"version": torch.__version__, "threads": torch.get_num_threads()}}


def cells(row: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """Returns a row of the table."""
    same = ("net", "norm", "image_size", "mode")
    reference = [
        r for r in rows if r["contestant"] == REFERENCE and all(r[k] == row[k] for k in same)
    ]
    ratio = row["images_per_second"] / reference[0]["images_per_second"] if reference else None
    return [
        title(row["net"], row["norm"]),
        f"{row['mode']} {row['image_size']}, batch {row['batch_size']}",
        row["contestant"],
        f"{row['images_per_second']:.4g}",
        f"{row['slowest']:.4g} to {row['fastest']:.4g}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{row['flops_per_second'] / 1e9:.0f}",
        f"{row['fraction_of_product']:.0%}",
        "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f}",
        f"{row['compile_seconds']:.1f}",
    ]


def ratios(rows: list[dict[str, Any]]) -> str:
    """Returns a table: this project over the others, per workload."""
    names = ("net", "norm", "mode", "image_size", "contestant")
    found = {tuple(row[name] for name in names): row for row in rows}
    nets = sorted({key[:2] for key in found}, key=lambda net: (net[0], net[1] != "none"))
    workloads = sorted({key[2:4] for key in found}, key=lambda work: (work[1], work[0]))
    others = dict.fromkeys(row["contestant"] for row in rows if row["contestant"] != "vgg_jax")
    compared = [(name, name, "images_per_second") for name in others]
    compared.append(("plain Flax, peak memory", "plain Flax", "peak_bytes"))
    head = ["net", "this project over", *(f"{mode} {size}" for mode, size in workloads)]
    lines = []
    for net in nets:
        for label, name, key in compared:
            quotients = []
            for work in workloads:
                ours, theirs = found.get((*net, *work, "vgg_jax")), found.get((*net, *work, name))
                quotients.append(f"{ours[key] / theirs[key]:.2f}" if ours and theirs else "-")
            lines.append([title(*net), label, *quotients])
        if any(row.get("floor_seconds") for row in rows):
            shares = [share_of_floor(found.get((*net, *work, "vgg_jax"))) for work in workloads]
            lines.append([title(*net), "floor / step time", *shares])
    return markdown(head, lines, "ll" + "r" * len(workloads))


def share_of_floor(row: dict[str, Any] | None) -> str:
    """Returns how much of a step's time its multiplications need at a matrix product's rate."""
    if not row or not row.get("floor_seconds"):
        return "-"
    return f"{row['floor_seconds'] * row['images_per_second'] / row['batch_size']:.0%}"


def write_results(rows: list[dict[str, Any]], out: Path) -> None:
    """Writes table.md, ratios.md and throughput.png."""
    head = ["net", "workload", "who", "images/s, median", "range", "to PyTorch eager", "GFLOP/s"]
    head += ["of a matrix product", "peak MB", "compile s"]
    (out / "table.md").write_text(markdown(head, [cells(row, rows) for row in rows]))
    (out / "ratios.md").write_text(ratios(rows))
    panels = list(dict.fromkeys((r["mode"], r["image_size"]) for r in rows))
    names = list(dict.fromkeys(r["contestant"] for r in rows))
    with figure(out / "throughput", width=10, height=6) as drawing:
        for axes, (mode, size) in zip(
            drawing.subplots(2, (len(panels) + 1) // 2, squeeze=False).flat, panels, strict=False
        ):
            here = [r for r in rows if (r["mode"], r["image_size"]) == (mode, size)]
            nets = list(dict.fromkeys((r["net"], r["norm"]) for r in here))
            for index, name in enumerate(names):
                bars = [r for r in here if r["contestant"] == name]
                places = [
                    nets.index((r["net"], r["norm"])) + index / (len(names) + 1) for r in bars
                ]
                rates = [r["images_per_second"] for r in bars]
                spread = [
                    [r["images_per_second"] - r["slowest"] for r in bars],
                    [r["fastest"] - r["images_per_second"] for r in bars],
                ]
                axes.bar(places, rates, 1 / (len(names) + 1), yerr=spread, label=name, align="edge")
            labels = [title(*net) for net in nets]
            middle = len(names) / (len(names) + 1) / 2
            axes.set_xticks([place + middle for place in range(len(nets))], labels)
            axes.set(title=f"{mode}, {size} pixels", ylabel="images/s")
        drawing.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


if __name__ == "__main__":
    run_command(main)
