"""What a run reached and how it was measured, in words and figures."""

import json
import math

import pytest

from vgg_jax.reporting.facts import (
    count,
    data_split,
    devices,
    duration,
    end,
    number,
    numbers,
    percent,
    protocol,
)
from vgg_jax.runs.reader import StoredRun

PROTOCOL = {"dataset": "digits", "split": "test", "crop": "centre crop 32 of shortest side 32"}


@pytest.fixture
def stored(tmp_path):
    """Returns a run with the given files."""

    def store(lines=(), config=None, summary=None) -> StoredRun:
        (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        if summary is not None:
            (tmp_path / "summary.json").write_text(json.dumps(summary))
        return StoredRun(tmp_path)

    return store


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599.4, "59:59"), (3600, "1:00:00")],
        *[(math.nan, ""), (math.inf, ""), (None, "")],
    ],
)
def test_wall_time_reads_as_a_clock(seconds, text):
    assert duration(seconds) == text


def test_figures_are_short_and_unknown_ones_empty():
    assert (percent(0.73536), number(0.0123456), count(1234567)) == (
        "73.54%",
        "0.01235",
        "1,234,567",
    )
    assert (percent(None), number(None), count(None)) == ("", "", "")
    assert (number(math.nan), count(math.inf)) == ("nan", "inf")
    assert devices({"devices": {"count": 3, "kind": "v9", "platform": "tpu"}}) == "3 x v9 (tpu)"
    assert devices({}) == ""


@pytest.mark.parametrize(("ema", "words"), [(0.0, "no EMA"), (0.999, "EMA of the weights (0.999)")])
def test_protocol_names_data_split_examples_views_and_ema(stored, ema, words):
    run = stored(
        [{"step": 1, "eval/examples": 1359.0}], {"optimizer": {"ema": ema}}, {"protocol": PROTOCOL}
    )
    view = "one view (centre crop 32 of shortest side 32)"
    assert protocol(run) == f"data digits test, 1,359 examples, {view}, {words}"


def test_protocol_of_a_run_that_has_not_ended_is_that_of_its_config(stored):
    run = stored(config={"data": {"name": "cifar10", "eval_split": "test"}})
    assert data_split(run) == ("cifar10", "test")
    assert protocol(run) == "data cifar10 test, one view, EMA or not is unknown"
    (run.path / "config.json").unlink()
    assert protocol(StoredRun(run.path)).startswith("data unknown, ")


def test_best_accuracy_has_the_step_at_which_it_was_reached_first(stored):
    lines = [{"step": s, "eval/top1": a} for s, a in ((10, 0.2), (20, 0.5), (30, 0.5), (40, 0.3))]
    found = numbers(stored(lines))
    assert (found["best top-1"], found["at step"], found["steps made"]) == ("50.00%", "20", "40")
    assert found["parameters"] == ""


@pytest.mark.parametrize("reason", ["SIGTERM", None])
def test_end_is_the_exit_reason(stored, reason):
    assert end(stored(summary={"exit_reason": reason})) == (reason or "not ended")
