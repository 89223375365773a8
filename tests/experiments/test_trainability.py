"""What trains at all: the command line at a tiny size."""

import pytest

from experiments.trainability import cells, run
from experiments.trainability.cells import CURE, CURED_LAYERS
from vgg_jax.errors import UserError
from vgg_jax.models.variants import VARIANTS
from vgg_jax.runs.tables import read_table


def test_trains_and_redraws(tmp_path, monkeypatch):
    # The layers that the cure copies, and one more.
    monkeypatch.setitem(VARIANTS, "A", ("3-64",))
    monkeypatch.setitem(VARIANTS, "B", ("3-64 x2",))
    monkeypatch.setattr(cells, "CURED_LAYERS", ("conv1_1", "fc6", "fc7", "fc8"))
    preset = run.Preset(("B",), ("paper",), (0.01,), 1 / 64, 2, 8)
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    assert run.main([f"--out={tmp_path}"]) == 0
    table = read_table(tmp_path / "cells.csv")
    assert table["init"].tolist() == ["paper", CURE, "paper"]
    assert table["outcome"][0] in ("vanished", "dead")
    (tmp_path / "map.png").unlink()
    assert run.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "map.png").exists()


def test_both_nets_have_the_layers_that_the_cure_copies():
    assert CURED_LAYERS[:5] == ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6")
    for net in ("A", "E"):
        assert set(CURED_LAYERS) <= set(cells.network(net, "none", 1 / 64).layer_names)


def test_nothing_to_redraw(tmp_path):
    with pytest.raises(UserError, match="run without --redraw first"):
        run.main(["figures", f"--out={tmp_path / 'empty'}"])
