"""The table of a sweep: mean and spread over seeds, and nothing where nothing is known."""

import csv
import statistics

import pytest
from pyarrow import parquet

from vgg_jax.sweeping.table import format_rows, spread, sweep_table, write_table

TOP1 = {"good-seed3": (0.25, 0.75, 0.5), "good-seed4": (0.5, 0.625, 0.75)}


@pytest.fixture
def stored(trials, store):
    """Both good runs are finished: three evaluations each."""
    for trial in trials[:2]:
        lines = [
            {"step": step, "eval/top1": value, "eval/loss": 1 - value}
            for step, value in enumerate(TOP1[trial.name], 1)
        ]
        store(trial, *lines, wall_seconds=10.0 * int(trial.name[-1]))
    return trials


def test_runs_that_differ_in_their_seed_are_one_row(stored):
    good, bad = sweep_table(stored)
    assert (good["runs"], good["missing"], good["seeds"]) == (2, 0, "3 4")
    assert (bad["runs"], bad["missing"], bad["seeds"]) == (0, 1, "")
    assert good["model.stages"] == "('3-4', '3-8')"
    assert (good["init.weights"], bad["init.weights"]) == ("", "gone")
    assert "seed" not in good
    for name, values in (
        ("eval/top1", (0.5, 0.75)),  # the last ones
        ("best/eval/top1", (0.75, 0.75)),
        ("eval/loss", (0.5, 0.25)),
        ("wall_seconds", (30, 40)),
    ):
        assert good[f"{name}_mean"] == pytest.approx(statistics.fmean(values))
        assert good[f"{name}_std"] == pytest.approx(statistics.stdev(values))
    assert good["eval/top5_mean"] is None  # no run has it


def test_one_run_has_no_spread_and_one_that_was_stopped_is_missing(stored, store):
    store(stored[1], {"step": 1, "eval/top1": 0.9}, exit_reason="SIGTERM")
    good, _ = sweep_table(stored)
    assert (good["runs"], good["missing"], good["seeds"]) == (1, 1, "3")
    assert (good["eval/top1_mean"], good["eval/top1_std"]) == (0.5, None)


def test_table_without_a_finished_run_is_empty_not_zero(trials):
    rows = sweep_table(trials)
    assert [row["missing"] for row in rows] == [2, 1]
    assert all(row["eval/top1_mean"] is None for row in rows)
    header, first, _ = format_rows(rows)
    assert first[header.index("top-1 [%]")] == "-"


def test_what_is_printed_leaves_out_what_is_the_same(stored):
    header, good, bad = format_rows(sweep_table(stored))
    assert header == [
        *("init.weights", "runs", "missing", "seeds"),
        *("top-1 [%]", "best top-1 [%]", "seconds"),
    ]
    assert good == ["", "2", "0", "3 4", "62.50 ± 17.68", "75.00 ± 0.00", "35 ± 7"]
    assert bad == ["gone", "0", "1", "", "-", "-", "-"]
    header, _ = format_rows(sweep_table(stored[:2]))  # of one row, everything is shown
    assert {"config", "model.stages", "steps"} <= set(header)


@pytest.mark.parametrize(
    ("mean", "std", "text"), [(0.5, 0.25, "50.0 ± 25.0"), (0.5, None, "50.0"), (None, None, "-")]
)
def test_spread(mean, std, text):
    assert spread({"a_mean": mean, "a_std": std}, "a", 100, 1) == text


def test_both_files_hold_the_rows(stored, tmp_path):
    rows = sweep_table(stored)
    write_table(rows, tmp_path)
    with (tmp_path / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    for row, texts in zip(rows, read, strict=True):
        assert texts == {key: "" if value is None else str(value) for key, value in row.items()}
    assert parquet.read_table(tmp_path / "table.parquet").to_pylist() == rows
