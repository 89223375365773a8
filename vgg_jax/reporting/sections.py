"""What a report says about runs and the files beside them: one function a section."""

import itertools
import statistics
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vgg_jax.reporting import html
from vgg_jax.reporting.facts import count, devices, end, numbers, percent, protocol
from vgg_jax.reporting.probes import Grid, grid_charts, read_grids
from vgg_jax.reporting.published import published_cifar
from vgg_jax.reporting.svg import line_chart
from vgg_jax.runs.directory import LAYERS_FILE
from vgg_jax.runs.reader import StoredRun

# metric, name of the axis, whether logarithmic
_CURVES = (
    ("train/loss", "training loss [nats]", True),
    ("eval/top1", "evaluation top-1 accuracy", False),
    ("train/top1", "training top-1 accuracy", False),
    ("train/gradient_norm", "gradient norm", True),
    ("train/learning_rate", "learning rate", False),
)
# Quantities of the probes that are about gradients; they come before the others.
GRADIENTS = ("activation_grad_rms", "weight_grad_norm", "grad_param_ratio", "update_ratio")
_MAX_PICTURE_BYTES = 2**20


def run_page(run: StoredRun) -> str:
    """Returns the report of one run, a whole page."""
    return html.page(f"Report: {run.name}", html.LEAD, run_section(run))


def run_section(run: StoredRun) -> Iterator[str]:
    """Yields everything about one run: first what it reached, last how to repeat it."""
    yield from final_accuracy(run)
    yield from learning_curves([run])
    grids = stored_grids(run)
    yield html.heading("Gradients per layer", 3)
    if gradients := [grid for grid in grids if grid.quantity in GRADIENTS]:
        yield _charts(gradients)
    else:
        yield html.note("Not measured; --config.probe.every_steps=N measures them along a run.")
    yield from throughput([run])
    yield from beside_published([run])
    if others := [grid for grid in grids if grid.quantity not in GRADIENTS]:
        yield html.heading("Layer by layer", 3)
        yield _charts(others)
    yield from how_to_repeat([run])


def final_accuracy(run: StoredRun) -> Iterator[str]:
    """Yields the last accuracy with its protocol, and in a table what else the run reached."""
    yield html.heading("Final accuracy" if end(run) == "finished" else "Accuracy so far", 3)
    evaluations = run.curve("eval/top1")
    if evaluations:
        step, top1 = evaluations[-1]
        yield html.result(percent(top1), f"top-1 at step {step:,}")
        yield html.note(f"Protocol: {protocol(run)}.")
    else:
        yield html.note("The run has not been evaluated.")
    config = run.config
    facts = {
        "top-5": percent(run.last("eval/top5")),
        **numbers(run),
        "net": str(config.get("model.variant", "")),
        "norm": str(config.get("model.norm", "")),
        "init": str(config.get("model.kernel_init", "")),
        "end": end(run),
    }
    known = {name: fact for name, fact in facts.items() if fact}
    yield html.table(list(known), [list(known.values())])


def learning_curves(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields charts of what the runs recorded, a line for each run."""
    charts = [_curves(runs, *curve) for curve in _CURVES]
    if any(charts):
        yield html.heading("Learning curves", 3)
        if len(runs) > 1:
            yield html.legend([run.name for run in runs])
        yield html.charts(charts)


def throughput(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields how fast the runs went."""
    chart = _curves(runs, "train/images_per_second", "images/s", False)
    if not chart:
        return
    yield html.heading("Throughput", 3)
    if len(runs) > 1:
        yield html.legend([run.name for run in runs])
    elif (speed := runs[0].summary.get("images_per_second")) is not None:
        first = runs[0].summary.get("seconds_to_first_step")
        yield html.note(
            f"{count(speed)} images/s on {devices(runs[0].summary) or 'an unknown device'}"
            + (f"; {first:.1f} s from the start to the first step." if first is not None else ".")
        )
    yield html.charts([chart])


def _curves(runs: Sequence[StoredRun], metric: str, label: str, log_y: bool) -> str:
    """Returns a chart of one metric, or nothing if no run has it."""
    curves = [(run.name, run.curve(metric)) for run in runs]
    chart = line_chart(curves, x_label="step", y_label=label, log_y=log_y)
    return html.captioned_figure(label, chart) if chart else ""


def stored_grids(run: StoredRun) -> list[Grid]:
    """Returns what the probes along a run measured.

    Raises:
      UserError: a file is damaged.
    """
    return [
        grid
        for path in sorted((run.path / LAYERS_FILE.parent).glob("*.csv"))
        for grid in read_grids(path)
    ]


def _charts(grids: Sequence[Grid]) -> str:
    return html.charts(chart for grid in grids for chart in grid_charts([(grid.caption, 0, grid)]))


def beside_published(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields, for CIFAR runs, a table of what is reached here and what others published."""
    comparable = [run for run in runs if published_cifar(run.config)]
    if not comparable:
        return
    yield html.heading("Beside published figures", 3)
    letters: dict[str, str] = {}  # of the sources, in the order of their appearance
    rows = []
    for key, same in itertools.groupby(sorted(comparable, key=_net), key=_net):
        members = list(same)
        figures = []
        for row in published_cifar(members[0].config):
            source = f"{row['source']} ({row['protocol']})"
            letter = letters.setdefault(source, string.ascii_lowercase[len(letters)])
            figures.append(f"{row['top1']} {letter}")
        last, best = (
            _mean_and_spread([pick(run) for run in members])
            for pick in (lambda run: run.last("eval/top1"), lambda run: run.best("eval/top1"))
        )
        seeds = " ".join(str(run.config.get("seed")) for run in members)
        rows.append([*key, last, best, seeds, ", ".join(figures)])
    header = ["net", "norm", "data", "width", "length", "last [%]", "best [%]", "seeds"]
    yield html.table([*header, "published [%]"], rows)
    yield html.note("; ".join(f"{letter}: {source}" for source, letter in letters.items()) + ".")
    yield html.note(
        "Published nets have width 1 and hundreds of epochs: a run with less is no reproduction."
    )


def how_to_repeat(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields commands, hardware and versions, and configs."""
    commands = [f"# {run.name}\n{run.command}" for run in runs if run.command]
    if commands:
        yield html.heading("Commands, versions, configs", 3)
        yield html.details(f"{len(commands)} command(s)", html.code("\n\n".join(commands)))
    environments: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for run in runs:
        environments.setdefault(tuple(_environment(run.summary)), []).append(run.name)
    for facts, names in environments.items():
        if facts:
            yield html.details(
                f"Versions and hardware: {_listed(names)}", html.table(["", ""], list(facts))
            )
    if configs := [run.config for run in runs if run.config]:
        differing = differing_keys(runs)
        shared = {key: value for key, value in configs[0].items() if key not in differing}
        title = "What the configs share" if len(configs) > 1 else "Config"
        rows = [[key, str(value)] for key, value in sorted(shared.items())]
        yield html.details(title, html.table(["key", "value"], rows))


def differing_keys(runs: Sequence[StoredRun]) -> list[str]:
    """Returns the config keys whose values are not the same in all runs that have a config."""
    configs = [run.config for run in runs if run.config]
    keys = sorted({key for config in configs for key in config})
    return [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]


def result_files(folder: Path, runs: Sequence[StoredRun]) -> Iterator[tuple[Path, str]]:
    """Yields (file, html) of the tables and figures in a folder that belong to no run.

    A figure kept as png and svg is shown once; so is a table kept as csv and Markdown.
    """
    own = [run.path.resolve() for run in runs]
    for path in sorted(folder.rglob("*")):
        inside = path.resolve().parents
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or any(directory in inside for directory in own):
            continue
        if path.suffix == ".csv" and not path.with_suffix(".md").exists():
            yield path, html.csv_table(path)
        elif path.suffix == ".md" and path.stem != "README":
            yield path, "".join(html.markdown_tables(path.read_text(errors="replace")))
        elif path.suffix == ".png" or (
            path.suffix == ".svg" and not path.with_suffix(".png").exists()
        ):
            if path.stat().st_size <= _MAX_PICTURE_BYTES:
                yield path, html.picture(path, path.stem.replace("_", " "))
            else:
                yield path, html.note(f"{path.name} has more than a mebibyte and is left out")


def _net(run: StoredRun) -> tuple[str, ...]:
    keys = ("model.variant", "model.norm", "data.name", "model.width")
    steps, epochs = run.config.get("steps"), run.config.get("epochs")
    length = f"epochs: {epochs}".removesuffix(".0") if steps is None else f"steps: {steps}"
    return (*(str(run.config.get(key)) for key in keys), length)


def _environment(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if summary.get("devices"):
        yield "devices", devices(summary)
    if summary.get("git_revision"):
        yield "git revision", str(summary["git_revision"])
    for name, version in (summary.get("versions") or {}).items():
        yield name, str(version)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _mean_and_spread(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.2f}"
    return f"{mean} ± {statistics.stdev(known):.2f}" if len(known) > 1 else mean
