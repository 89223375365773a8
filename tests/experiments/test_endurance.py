"""Long runs, shortened: every part is measured once, and redrawn."""

import json

import numpy as np
import pytest

from experiments.endurance import run
from vgg_jax.runs.tables import read_table


def test_measures_once_and_redraws(tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # programs for one device compile sooner
    monkeypatch.setitem(run.PRESETS, "quick", (200, 2, 1, 100))
    monkeypatch.setattr(run, "SAMPLE_SECONDS", 0.02)
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0
    table = read_table(tmp_path / "steps.csv.gz")
    assert np.all(np.diff(table["step"]) >= 0)
    assert 100 <= table["step"][-1] <= 200
    assert np.all(table["memory_mb"].astype(float) > 50)
    sweep = json.loads((tmp_path / "sweep.json").read_text())
    assert sweep["exit_status"] == 0
    assert {sweep[name] for name in ("runs", "finished", "evaluated_once", "in_the_table")} == {2}
    assert len(sweep["finished_at_each_kill"]) == 1
    photos = json.loads((tmp_path / "photos.json").read_text())
    assert [row["photos"] for row in photos] == [row["examples"] for row in photos] == [10, 100]
    text = (tmp_path / "table.md").read_text()
    (tmp_path / "table.md").unlink()

    monkeypatch.setattr(run, "train", pytest.fail)
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0
    assert run.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == text
