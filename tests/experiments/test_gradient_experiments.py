"""The three experiments on gradients through their command lines, at a tiny size."""

import dataclasses

import pytest

from experiments.init_gradients import run as init_gradients
from experiments.init_gradients.grid import Cell, full_cells
from experiments.trainability import run as trainability
from experiments.trainability.cells import CURE
from experiments.training_gradients import run as training_gradients
from vgg_jax.errors import UserError
from vgg_jax.reporting.tables import read_table, select


def test_init_gradients_goes_on_and_redraws(tmp_path, monkeypatch, capsys):
    cells = [Cell("wide-20", "he_fan_in", "none", "relu", "none", "noise-2px", n) for n in (2, 4)]
    arguments = [f"--out={tmp_path}"]
    for known in (cells[:1], cells):
        monkeypatch.setitem(init_gradients.CELLS, "quick", lambda real, known=known: known)
        assert init_gradients.main(arguments) == 0
    assert "2 cells, 1 of them stored" in capsys.readouterr().out
    table = read_table(tmp_path / "measurements.csv.gz")
    rows = select(table, quantity="activation_grad_rms", layer="conv1_20")
    assert sorted(rows["batch_size"].tolist()) == [2] * 3 + [4] * 3
    decay = (tmp_path / "decay.md").read_text()
    (tmp_path / "decay.md").unlink()
    assert init_gradients.main(["figures", *arguments]) == 0
    assert (tmp_path / "decay.md").read_text() == decay


def test_the_whole_grid_is_in_full():
    cells = full_cells("cifar10")
    grid = [cell for cell in cells if cell.data in ("noise", "cifar10") and cell.batch_size == 16]
    assert len(cells) == len(set(cells))
    assert len(grid) == 8 * 8 * 2 * 3 * 3 * 2


def test_training_gradients(tmp_path, monkeypatch):
    preset = dataclasses.replace(
        training_gradients.PRESETS["quick"],
        nets=("A",),
        inits=("he_fan_in",),
        width=1 / 64,
        batch_size=8,
        steps=2,
        probe_every=1,
        log_every=1,
    )
    monkeypatch.setitem(training_gradients.PRESETS, "quick", preset)
    assert training_gradients.main([f"--out={tmp_path}"]) == 0
    table = select(read_table(tmp_path / "layers.csv.gz"), quantity="activation_grad_rms")
    assert set(table["step"].tolist()) == {0, 1}
    assert set(table["norm"].tolist()) == {"none", "batch"}
    first = (tmp_path / "net_A.png").read_bytes()
    assert training_gradients.main(["figures", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "net_A.png").read_bytes() == first


def test_trainability(tmp_path, monkeypatch):
    preset = trainability.Preset(("B",), ("paper",), (0.01,), 1 / 16, 2, 8)
    monkeypatch.setitem(trainability.PRESETS, "quick", preset)
    assert trainability.main([f"--out={tmp_path}"]) == 0
    table = read_table(tmp_path / "cells.csv")
    assert table["init"].tolist() == ["paper", CURE, "paper"]
    assert table["outcome"][0] in ("vanished", "dead")
    (tmp_path / "map.png").unlink()
    assert trainability.main(["figures", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "map.png").exists()


@pytest.mark.parametrize("experiment", [init_gradients, training_gradients, trainability])
def test_nothing_to_draw(experiment, tmp_path):
    with pytest.raises(UserError, match="without 'figures' first"):
        experiment.main(["figures", f"--out={tmp_path / 'empty'}"])
