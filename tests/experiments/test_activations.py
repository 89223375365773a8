"""Activations compared at equal gain, shortened: measured once, resumed, redrawn."""

import numpy as np
import pytest

from experiments.activations import run
from experiments.trainability.cells import network
from vgg_jax.runs.tables import read_table, select


def test_measures_resumes_and_redraws(tmp_path, monkeypatch):
    monkeypatch.setitem(run.PRESETS, "quick", run.Preset(("A",), (0.05,), 2, 1 / 16, 2, 8))
    monkeypatch.setattr(run, "ACTIVATIONS", ("relu", "tanh"))
    # Two convolutions of net A's eight compile in a quarter of the time.
    monkeypatch.setattr(
        run, "network", lambda *fields: network(*fields).clone(stages=("3-64", "3-128"))
    )
    arguments = ["--preset=quick", f"--out={tmp_path}"]
    assert run.main(arguments) == 0
    table = read_table(tmp_path / run.TABLE)
    start = select(table, quantity="preactivation_rms", step=0)
    assert len(start["value"]) == 2 * 2 * 5
    np.testing.assert_allclose(start["value"], 1, atol=0.2)  # LSUV: equal gain
    assert len(select(table, quantity="accuracy")["value"]) == 4
    text = (tmp_path / "table.md").read_text()

    monkeypatch.setattr(run, "train", pytest.fail)
    run.measure(run.PRESETS["quick"], tmp_path / run.TABLE)  # nothing is left to train
    assert run.main(["--redraw", *arguments]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "activations.png").stat().st_size > 2_000
