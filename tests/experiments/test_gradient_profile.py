"""Norms of gradients per layer: the command line at a tiny size, and the interventions."""

import jax
import numpy as np
import pytest

from experiments.depth_limit import report as base_report
from experiments.depth_limit.nets import Net, draw
from experiments.depth_limit.presets import Preset
from experiments.gradient_profile import arms, report, run
from vgg_jax.runs.tables import read_table, table_rows, write_table


@pytest.fixture
def given():
    """Parameters and gradients of a net, at the start and later."""
    keys = jax.random.split(jax.random.key(0), 4)
    return tuple(draw(Net(7, 2), key) for key in keys)


def geometric_mean(values):
    return np.exp(np.mean(np.log(values)))


def test_equal_always(given):
    params, grads, start, first = given
    before = arms.flat(arms.ratios(params, grads))
    after = arms.flat(arms.ratios(params, arms.equal_always(params, grads, start, first)))
    assert after == pytest.approx(np.full(7, geometric_mean(before)), rel=1e-5)


def test_equal_at_start_keeps_its_factors(given):
    params, grads, start, first = given
    levelled = arms.equal_at_start(start, first, start, first)
    assert np.ptp(arms.flat(arms.ratios(start, levelled))) < 1e-5
    later = arms.flat(arms.ratios(params, arms.equal_at_start(params, grads, start, first)))
    factors = later / arms.flat(arms.ratios(params, grads))
    assert factors * arms.flat(arms.ratios(start, first)) == pytest.approx(
        np.full(7, geometric_mean(arms.flat(arms.ratios(start, first)))), rel=1e-5
    )


def test_imposed_falls_by_batch_norms_growth(given):
    _, _, start, first = given
    found = arms.flat(arms.ratios(start, arms.imposed(start, first, start, first)))
    assert found[:-1] / found[1:] == pytest.approx(np.full(6, 1.2112), rel=1e-3)
    assert geometric_mean(found) == pytest.approx(
        geometric_mean(arms.flat(arms.ratios(start, first))), rel=1e-4
    )


def test_trains_once_and_redraws(tmp_path, monkeypatch, capsys):
    label = "plain, equal at the start"
    monkeypatch.setattr(arms, "ARMS", {label: arms.ARMS[label]})
    monkeypatch.setattr(report, "ARMS", arms.ARMS)
    monkeypatch.setattr(report, "PLANE", ("plain",))
    preset = Preset("digits", (5,), 2, 3, 8, (0.01,), 1, (5,), (2,), 2, 5)
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    monkeypatch.setitem(run.CHANNELS, "quick", 2)
    base = tmp_path / "base"
    base.mkdir()
    rows = [
        {"kind": "plain", "layers": 5, "channels": 2, "seed": 0, "block": b, "value": 1.0}
        for b in (0, 1)
    ]
    write_table(base / base_report.GRADIENTS, rows, base_report.COLUMNS[base_report.GRADIENTS])
    columns = base_report.COLUMNS[base_report.RUNS]
    row = dict.fromkeys(columns, 1) | {"kind": "plain", "layers": 5, "accuracy": 0.875}
    write_table(base / base_report.RUNS, [row], columns)

    options = [f"--out={tmp_path}", f"--base={base}"]
    for _ in range(2):
        assert run.main(options) == 0
    assert capsys.readouterr().out.count(label) == 1
    assert set(read_table(tmp_path / report.RUNS)["arm"]) == {label}
    text = (tmp_path / "table.md").read_text()
    assert "| plain | 87.5 ± nan (1) |" in text
    alike = read_table(tmp_path / report.COHERENCE)
    assert [(row["border"], row["seed"]) for row in table_rows(alike)] == [
        (border, seed) for border in report.BORDERS for seed in range(run.SEEDS["quick"])
    ]
    (tmp_path / "table.md").unlink()
    assert run.main([*options, "--redraw"]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "profile.png").exists()
