"""The table of a sweep: a line for runs that differ only in their seed, with mean and spread."""

import csv
import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgg_jax.config import flatten, load_config, override_arguments
from vgg_jax.runs.reader import StoredRun
from vgg_jax.sweeping.trials import Trial

TABLE_FILE = "table.csv"
SEED = "seed"  # the key whose values only repeat a run
UNKNOWN = "-"
METRICS = ("eval/top1", "eval/top5", "eval/loss", "train/loss")

Row = dict[str, Any]


def sweep_table(trials: Sequence[Trial]) -> list[Row]:
    """Returns one row for each group of runs that differ only in `seed`, in the sweep's order.

    Columns: "config", each overridden key, "runs" (finished ones), "missing", "seeds"; then of each
    metric, its last value in a run, "METRIC_mean" and "METRIC_std" over the seeds (the standard
    deviation of the sample, None for one run); "best/eval/top1" is the highest of all evaluations
    of a run; "wall_seconds" is of the last start of a run.
    """
    keys = list(dict.fromkeys(itertools.chain.from_iterable(t.overrides for t in trials)))
    keys = [key for key in keys if key != SEED]
    groups: dict[tuple[str, ...], list[Trial]] = {}
    for trial in trials:
        texts = (str(trial.overrides[key]) if key in trial.overrides else "" for key in keys)
        groups.setdefault((trial.config, *texts), []).append(trial)
    return [
        dict(zip(("config", *keys), group, strict=True)) | _statistics(members)
        for group, members in groups.items()
    ]


def _statistics(trials: Sequence[Trial]) -> Row:
    finished = [trial for trial in trials if trial.finished()]
    runs = [StoredRun(trial.workdir) for trial in finished]
    row: Row = {
        "runs": len(runs),
        "missing": len(trials) - len(runs),
        "seeds": " ".join(str(_seed(trial)) for trial in finished),
    }
    columns = {metric: [run.last(metric) for run in runs] for metric in METRICS}
    columns["best/eval/top1"] = [run.best("eval/top1") for run in runs]
    columns["wall_seconds"] = [run.summary["wall_seconds"] for run in runs]
    for name, found in columns.items():
        values = [value for value in found if value is not None]
        row[f"{name}_mean"] = statistics.fmean(values) if values else None
        row[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    return row


def _seed(trial: Trial) -> int:
    return flatten(load_config(trial.config, override_arguments(trial.overrides)))[SEED]


def write_table(rows: Sequence[Row], folder: Path) -> None:
    """Writes table.csv and table.parquet; what is not known is empty, or null."""
    import pyarrow as pa
    from pyarrow import parquet

    with (folder / TABLE_FILE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    parquet.write_table(pa.Table.from_pylist(list(rows)), folder / "table.parquet")


def format_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Returns the header and the rows as text, columns that are the same in every row left out."""
    varied = [
        key
        for key in rows[0]
        if not key.endswith(("_mean", "_std"))
        and (len(rows) == 1 or len({str(row[key]) for row in rows}) > 1 or key == "seeds")
    ]
    shown = [*varied, "top-1 [%]", "best top-1 [%]", "seconds"]
    lines = [shown]
    for row in rows:
        lines.append(
            [str(row[key]) for key in varied]
            + [
                spread(row, "eval/top1", 100, 2),
                spread(row, "best/eval/top1", 100, 2),
                spread(row, "wall_seconds", 1, 0),
            ]
        )
    return lines


def spread(row: Row, name: str, scale: float, digits: int) -> str:
    """Returns "mean ± standard deviation" of a metric of a row, times `scale`."""
    mean, std = row[f"{name}_mean"], row[f"{name}_std"]
    if mean is None:
        return UNKNOWN
    text = f"{scale * mean:.{digits}f}"
    return text if std is None else f"{text} ± {scale * std:.{digits}f}"
