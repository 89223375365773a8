"""Curvature along descents, shortened: measured once, resumed, redrawn."""

import dataclasses

import numpy as np
import pytest

from experiments.curvature import descents, figures, run
from vgg_jax.runs.tables import read_table, select, table_rows, write_table

TINY = descents.Preset((("3-4", "3-8"),), 1.0, 8, 16, 2, 4, 2, (1.0,), 2, (1.0, 128.0))


def test_measures_resumes_and_redraws(tmp_path, monkeypatch):
    monkeypatch.setitem(run.PRESETS, "quick", TINY)
    name = "gradient descent"
    stable = {name: descents.STABLE[name]}
    monkeypatch.setattr(run, "STABLE", stable)
    # One program of Lanczos in place of two.
    monkeypatch.setattr(descents, "FIRST_ITERATIONS", descents.ITERATIONS)
    arguments = ["--preset=quick", f"--out={tmp_path}"]
    assert run.main(arguments) == 0

    assert (tmp_path / "record.json").exists()
    edge = read_table(tmp_path / "edge.csv.gz")
    for norm in ("none", "batch"):
        found = select(edge, norm=norm, optimizer=name, quantity="sharpness", seed=0)
        assert found["step"].tolist() == [0, 2, 4]
        # The rate is the one whose limit is the sharpness at the start.
        limit = stable[name] / float(found["rate"][0])
        assert found["value"][0] == pytest.approx(limit, rel=1e-4)
    rates = read_table(tmp_path / "rates.csv")
    assert rates["factor"].astype(float).tolist() == [1, 128] * 4
    scale = select(read_table(tmp_path / "scale.csv"), norm="batch", seed=0)
    # Batch norm: curvature and gradient are a matter of the kernel's size alone.
    values = scale["sharpness"].astype(float)
    np.testing.assert_allclose(values, values[0], rtol=0.05)
    assert np.all(np.abs(scale["cosine"].astype(float)) < 1e-3)
    text = (tmp_path / "table.md").read_text()

    # A descent that is missing is made again, alone.
    monkeypatch.setattr(run, "scale_rows", pytest.fail)
    monkeypatch.setattr(run, "rate_rows", pytest.fail)
    rows = table_rows(edge)
    kept = [row for row in rows if (row["norm"], row["seed"]) != ("batch", 1)]
    write_table(tmp_path / "edge.csv.gz", kept, run.TABLES["edge.csv.gz"])
    assert run.main(arguments) == 0
    again = read_table(tmp_path / "edge.csv.gz")
    assert table_rows(again) == rows

    monkeypatch.setattr(run, "problem", pytest.fail)
    (tmp_path / "table.md").unlink()
    assert run.main(arguments) == 0
    assert run.main(["--redraw", *arguments]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "edge.png").stat().st_size > 2_000


def test_the_largest_rate_that_trains_lies_below_the_first_that_is_too_large():
    trains = {1.0: 0, 2.0: 1, 4.0: 1, 8.0: 0, 16.0: 1}  # the first one is too slow
    rows = [
        {"net": "A", "norm": norm, "seed": seed, "factor": factor, "rate": factor / 100}
        | {"trains": works if norm == "none" else 0}
        for norm in ("none", "batch")
        for seed in (0, 1)
        for factor, works in trains.items()
    ]
    table = {name: np.array([str(row[name]) for row in rows]) for name in rows[0]}
    text = figures.rates_table(table)
    assert "| A | no norm | 4, 4 | 0.04, 0.04 |" in text
    assert "| A | batch norm | 0, 0 | 0, 0 |" in text


def test_rates_are_tried_until_one_fails_after_one_that_trained(monkeypatch):
    of = descents.problem(("3-4", "3-8"), "none", 0, TINY, None)
    losses = iter([0.5, 0.3, 0.2, np.nan, 0.1])
    programs = descents.programs(of.model)._replace(loss=lambda *_: next(losses))
    monkeypatch.setattr(descents, "programs", lambda _: programs)
    preset = dataclasses.replace(TINY, factors=(1.0, 2.0, 4.0, 8.0, 16.0))
    found = [(row["factor"], row["trains"]) for row in descents.rate_rows(of, preset)]
    assert found == [(1.0, 0), (2.0, 1), (4.0, 1), (8.0, 0)]
