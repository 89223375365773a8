"""The landscape along training, shortened: measured once, resumed, redrawn."""

import pytest

from experiments.bn_landscape import run, trajectories
from vgg_jax.runs.tables import read_table, select


def test_measures_resumes_and_redraws(tmp_path, monkeypatch):
    preset = trajectories.Preset((0.05,), 2, (0, 2, 12), 1.0, 8, 3, 8)
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    monkeypatch.setattr(trajectories, "TEST_IMAGES", 50)
    net_a = trajectories.network
    # One convolution of net A's eight compiles in a tenth of the time.
    monkeypatch.setattr(
        trajectories,
        "network",
        lambda norm, width: net_a(norm, width).clone(stages=("3-8",), head_window=16),
    )
    arguments = ["--preset=quick", f"--out={tmp_path}"]
    assert run.main(arguments) == 0
    table = read_table(tmp_path / "landscape.csv.gz")
    for norm in trajectories.NORMS:
        found = select(table, norm=norm, quantity="relative/smoothness")
        assert found["step"].tolist() == [0, 2, 12] * 2
        assert (found["value"] > 0).all()
        assert len(select(table, norm=norm, quantity="loss")["step"]) == 2 * 12
        assert len(select(table, norm=norm, quantity="accuracy")["step"]) == 2
    # Noise is behind batch norm alone: the same start, another loss.
    losses = [
        select(table, norm=norm, quantity="loss", step=0, seed=0)["value"].item()
        for norm in ("batch", "noisy")
    ]
    assert losses[0] != losses[1]
    assert len(read_table(tmp_path / "surface.csv.gz")["loss"]) == 3 * 9
    text = (tmp_path / "table.md").read_text()

    monkeypatch.setattr(run, "follow", pytest.fail)
    monkeypatch.setattr(run, "surface", pytest.fail)
    (tmp_path / "table.md").unlink()
    run.train(preset, None, tmp_path / "landscape.csv.gz")  # nothing is left to measure
    run.picture(preset, None, tmp_path / "landscape.csv.gz", tmp_path / "surface.csv.gz")
    assert run.main(["--redraw", *arguments]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "landscape.png").stat().st_size > 2_000
    assert (tmp_path / "surface.png").stat().st_size > 2_000
