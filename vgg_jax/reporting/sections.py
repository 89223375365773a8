"""What a report says about a folder of runs: one function a section."""

import itertools
import statistics
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vgg_jax.reporting import html
from vgg_jax.reporting.probes import probe_charts
from vgg_jax.reporting.published import published_cifar
from vgg_jax.reporting.svg import line_chart
from vgg_jax.runs.directory import LAYERS_FILE
from vgg_jax.runs.reader import StoredRun

# metric, name of the axis, whether logarithmic
_CURVES = (
    ("train/loss", "training loss [nats]", True),
    ("eval/top1", "test top-1 accuracy", False),
    ("train/top1", "training top-1 accuracy", False),
    ("train/gradient_norm", "gradient norm", True),
    ("train/learning_rate", "learning rate", False),
)
_MAX_PICTURE_BYTES = 2**20


def runs_section(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields everything about runs that belong together."""
    yield overview(runs)
    yield from beside_published(runs)
    yield from learning_curves(runs)
    for run in runs:
        charts = [c for path in _probe_files(run) for c in probe_charts(path)]
        if charts and len(runs) == 1:
            yield html.heading("Layer by layer", 3)
            yield html.charts(charts)
        elif charts:
            yield html.details(f"{run.name}, layer by layer", html.charts(charts))
    yield from how_to_repeat(runs)


def overview(runs: Sequence[StoredRun]) -> str:
    """Returns a table with a line for each run."""
    header = [
        "run",
        "net",
        "norm",
        "init",
        "data",
        "steps",
        "top-1 last",
        "top-1 best",
        "examples",
        "loss",
        "images/s",
        "wall",
        "end",
    ]
    rows = []
    for run in runs:
        config, summary, metrics = run.config, run.summary, run.summary.get("metrics", {})
        examples = run.last("eval/examples")
        rows.append(
            [
                run.name,
                str(config.get("model.variant", "")),
                str(config.get("model.norm", "")),
                str(config.get("model.kernel_init", "")),
                str(summary.get("protocol", {}).get("dataset", config.get("data.name", ""))),
                f"{int(run.lines[-1]['step']):,}" if run.lines else "",
                _percent(run.last("eval/top1")),
                _percent(run.best("eval/top1")),
                "" if examples is None else f"{int(examples):,}",
                _number(metrics.get("train/loss", run.last("train/loss"))),
                _number(summary.get("images_per_second")),
                _duration(summary.get("wall_seconds")),
                summary.get("exit_reason", "not ended"),
            ]
        )
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return html.table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])


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
        seeds = " ".join(str(run.config["seed"]) for run in members)
        rows.append([*key, last, best, seeds, ", ".join(figures)])
    header = ["net", "norm", "data", "width", "length", "last [%]", "best [%]", "seeds"]
    yield html.table([*header, "published [%]"], rows)
    yield html.note("; ".join(f"{letter}: {source}" for source, letter in letters.items()) + ".")
    yield html.note(
        "Published nets have width 1 and hundreds of epochs: a run with less is no reproduction."
    )


def learning_curves(runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields a chart for each metric that a run recorded."""
    with_lines = [run for run in runs if run.lines]
    if not with_lines:
        return
    names = [run.name for run in with_lines]
    yield html.heading("Learning curves", 3)
    if len(names) > 1:
        yield html.legend(names)
    figures = []
    for metric, label, log_y in _CURVES:
        curves = [run.curve(metric) for run in with_lines]
        if any(curves):
            chart = line_chart(
                list(zip(names, curves, strict=True)), x_label="step", y_label=label, log_y=log_y
            )
            figures.append(html.captioned_figure(label, chart))
    yield html.charts(figures)


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
    configs = [run.config for run in runs if run.config]
    keys = sorted({key for config in configs for key in config})
    differing = [key for key in keys if len({str(c.get(key)) for c in configs}) > 1]
    if differing:
        rows = [
            [run.name, *(str(run.config.get(key, "")) for key in differing)]
            for run in runs
            if run.config
        ]
        yield html.details("Where the configs differ", html.table(["run", *differing], rows))
    if configs:
        rest = [key for key in keys if key not in differing]
        shared = [[key, str(configs[0].get(key, ""))] for key in rest]
        title = "What the configs share" if len(configs) > 1 else "Config"
        yield html.details(title, html.table(["key", "value"], shared))


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


def _probe_files(run: StoredRun) -> list[Path]:
    return sorted((run.path / LAYERS_FILE.parent).glob("*.csv"))


def _net(run: StoredRun) -> tuple[str, ...]:
    keys = ("model.variant", "model.norm", "data.name", "model.width")
    steps, epochs = run.config.get("steps"), run.config.get("epochs")
    length = f"epochs: {epochs:g}" if steps is None else f"steps: {steps}"
    return (*(str(run.config.get(key)) for key in keys), length)


def _environment(summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    devices = summary.get("devices")
    if devices:
        count, kind, platform = map(devices.get, ("count", "kind", "platform"))
        yield "devices", f"{count} x {kind} ({platform})"
    if summary.get("git_revision"):
        yield "git revision", str(summary["git_revision"])
    for name, version in summary.get("versions", {}).items():
        yield name, str(version)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _mean_and_spread(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{statistics.fmean(known):.2f}"
    return f"{mean} ± {statistics.stdev(known):.2f}" if len(known) > 1 else mean


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
