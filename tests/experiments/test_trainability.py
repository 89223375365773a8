"""What trains at all: the command line at a tiny size."""

import pytest

from experiments.trainability import run
from experiments.trainability.cells import CURE
from vgg_jax.errors import UserError
from vgg_jax.models.variants import VARIANTS
from vgg_jax.runs.tables import read_table


def test_trains_and_redraws(tmp_path, monkeypatch):
    # As deep as the layers that the cure copies, and one layer deeper.
    monkeypatch.setitem(VARIANTS, "A", ("3-64", "3-128", "3-256 x2"))
    monkeypatch.setitem(VARIANTS, "B", ("3-64", "3-128", "3-256 x3"))
    preset = run.Preset(("B",), ("paper",), (0.01,), 1 / 64, 2, 8)
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    assert run.main([f"--out={tmp_path}"]) == 0
    table = read_table(tmp_path / "cells.csv")
    assert table["init"].tolist() == ["paper", CURE, "paper"]
    assert table["outcome"][0] in ("vanished", "dead")
    (tmp_path / "map.png").unlink()
    assert run.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "map.png").exists()


def test_nothing_to_redraw(tmp_path):
    with pytest.raises(UserError, match="run without --redraw first"):
        run.main(["figures", f"--out={tmp_path / 'empty'}"])
