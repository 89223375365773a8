"""The timed run: both timings, the accuracy of every example, and the published config."""

import json

import pytest

from experiments.speedrun.run import main
from vgg_jax.config import load_config
from vgg_jax.errors import UserError

TINY = [
    "--config=configs/speedrun.py:digits,bn",
    "--config.model.stages=('3-4','3-8')",
    "--config.data.batch_size=16",
    "--config.eval.batch_size=100",
    "--config.steps=4",
]


def test_both_timings_are_of_the_same_training(tmp_path, capsys):
    assert main([*TINY, "--config.parallel.steps_per_dispatch=2", f"--out={tmp_path}"]) == 0
    stored = json.loads((tmp_path / "timings.json").read_text())
    cold, warm = stored["with compilation"], stored["without compilation"]
    assert min(cold["training_seconds"], warm["training_seconds"]) > 0
    for scoring in ("plain", "mirrored"):
        assert cold[scoring]["top1"] == warm[scoring]["top1"]
        assert cold[scoring]["examples"] == 359
    assert cold["plain"]["loss"] != cold["mirrored"]["loss"]
    assert stored["config"]["compute_dtype"] == "bfloat16"
    printed = capsys.readouterr().out
    assert f"| {cold['training_seconds']:.2f}, evaluation " in printed
    assert "| airbench94_muon (" in printed
    assert printed.strip() == (tmp_path / "table.md").read_text().strip()


def test_single_steps_are_refused_and_leave_the_cells_empty(tmp_path):
    with pytest.raises(UserError, match="steps_per_dispatch"):
        main([*TINY, "--config.parallel.steps_per_dispatch=1", f"--out={tmp_path}"])
    assert "| here, with compilation | - | - | - | - |" in (tmp_path / "table.md").read_text()


def test_whole_epochs_are_one_dispatch_and_none_is_left_over():
    config = load_config("configs/speedrun.py")
    size = config.parallel.steps_per_dispatch
    steps = round(config.epochs * 50_000 / config.data.batch_size)
    assert size * config.data.batch_size / 50_000 == pytest.approx(7, abs=0.05)
    assert steps % size == 0
