"""Curvature along descents, shortened: measured once, resumed, redrawn."""

import numpy as np
import pytest

from experiments.curvature import descents, run
from vgg_jax.runs.tables import read_table, select

TINY = descents.Preset((("3-4", "3-8"),), 1.0, 8, 16, 2, 4, 2, (1.0,), 2, (1.0, 128.0))


def test_measures_resumes_and_redraws(tmp_path, monkeypatch):
    monkeypatch.setitem(run.PRESETS, "quick", TINY)
    name = "gradient descent"
    stable = {name: descents.STABLE[name]}
    monkeypatch.setattr(descents, "STABLE", stable)
    # One program of Lanczos in place of two.
    monkeypatch.setattr(descents, "FIRST_ITERATIONS", descents.ITERATIONS)
    arguments = ["--preset=quick", f"--out={tmp_path}"]
    assert run.main(arguments) == 0

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

    monkeypatch.setattr(run, "problem", pytest.fail)
    (tmp_path / "table.md").unlink()
    assert run.main(arguments) == 0
    assert run.main(["--redraw", *arguments]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "edge.png").stat().st_size > 2_000
