"""What a run reached and how it was measured, as text for a table or a sentence."""

import math
from typing import Any

from vgg_jax.runs.reader import StoredRun


def protocol(run: StoredRun) -> str:
    """Returns in words what the accuracies of a run are of."""
    stored, config = run.summary.get("protocol") or {}, run.config
    crop, examples, ema = stored.get("crop"), run.last("eval/examples"), config.get("optimizer.ema")
    weights = "EMA or not is unknown" if ema is None else "no EMA"
    return ", ".join(
        [
            f"data {' '.join(data_split(run)) or 'unknown'}",
            *([] if examples is None else [f"{count(examples)} examples"]),
            f"one view ({crop})" if crop else "one view",
            f"EMA of the weights ({ema})" if ema else weights,
        ]
    )


def data_split(run: StoredRun) -> tuple[str, ...]:
    """Returns the names of the data set and of the split that a run was evaluated on, if known."""
    stored, config = run.summary.get("protocol") or {}, run.config
    found = (
        stored.get("dataset", config.get("data.name")),
        stored.get("split", config.get("data.eval_split")),
    )
    return tuple(str(name) for name in found if name)


def numbers(run: StoredRun) -> dict[str, str]:
    """Returns what a run reached in figures, each by its name; empty where it has none."""
    best_step, best = max(run.curve("eval/top1"), key=lambda p: p[1], default=(None, None))
    summary = run.summary
    metrics = summary.get("metrics") or {}
    return {
        "best top-1": percent(best),
        "at step": count(best_step),
        "eval loss": number(run.last("eval/loss")),
        "train loss": number(metrics.get("train/loss", run.last("train/loss"))),
        "images/s": count(summary.get("images_per_second")),
        "parameters": count(summary.get("parameters")),
        "steps made": count(run.lines[-1]["step"] if run.lines else None),
        "wall": duration(summary.get("wall_seconds")),
    }


def end(run: StoredRun) -> str:
    """Returns how a run ended."""
    return run.summary.get("exit_reason") or "not ended"


def percent(value: float | None) -> str:
    """Returns a share as a percentage."""
    return "" if value is None else f"{value:.2%}"


def number(value: float | None) -> str:
    """Returns a number with four digits."""
    return "" if value is None else f"{value:.4g}"


def count(value: float | None) -> str:
    """Returns a whole number with commas."""
    return "" if value is None else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """Returns hours, minutes and seconds."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def devices(summary: dict[str, Any]) -> str:
    """Returns what a run's summary says it ran on."""
    found = summary.get("devices")
    if not found:
        return ""
    return f"{found.get('count')} x {found.get('kind')} ({found.get('platform')})"
