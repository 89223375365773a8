"""Stored tables are those of the stored results."""

import importlib
import shutil
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize(
    ("name", "tables"),
    [
        ("first_runs", ["table.md"]),
        ("memory_and_communication", ["communication.md", "memory.md", "scaling.md"]),
        ("mixed_precision", ["accuracy.md"]),
        ("speedrun", ["table.md"]),
        ("start_up", ["table.md"]),
        ("throughput", ["ratios.md", "table.md"]),
        ("transfer", ["table.md"]),
    ],
)
def test_redraws_its_stored_tables(name, tables, tmp_path):
    results, out = EXPERIMENTS / name / "results", tmp_path / "results"
    pictures = shutil.ignore_patterns("*.png", "*.svg")
    shutil.copytree(results, out, ignore=pictures)
    for table in tables:
        (out / table).unlink()
    main = importlib.import_module(f"experiments.{name}.run").main
    assert main(["--redraw", f"--out={out}"]) == 0
    for table in tables:
        assert (out / table).read_text() == (results / table).read_text()
