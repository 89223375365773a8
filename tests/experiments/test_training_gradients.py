"""Gradients along training: the command line at a tiny size."""

import dataclasses

import pytest

from experiments.training_gradients import run
from vgg_jax.errors import UserError
from vgg_jax.models.variants import VARIANTS
from vgg_jax.runs.tables import read_table, select


def test_trains_and_redraws(tmp_path, monkeypatch):
    preset = dataclasses.replace(
        run.PRESETS["quick"],
        nets=("tiny",),
        inits=("he_fan_in",),
        batch_size=8,
        steps=2,
        probe_every=1,
        log_every=1,
    )
    monkeypatch.setitem(VARIANTS, "tiny", ("3-16", "3-32"))
    config_of = run.run_config

    def small(*arguments):
        """Three layers at 8 pixels compile in half the time of five at 32."""
        config = config_of(*arguments)
        config.model.head, config.data.image_size = "linear", 8
        return config

    monkeypatch.setattr(run, "run_config", small)
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    assert run.main([f"--out={tmp_path}"]) == 0
    table = select(read_table(tmp_path / "layers.csv.gz"), quantity="activation_grad_rms")
    assert set(table["step"].tolist()) == {0, 1}
    assert set(table["norm"].tolist()) == {"none", "batch"}
    first = (tmp_path / "net_tiny.png").read_bytes()
    assert run.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "net_tiny.png").read_bytes() == first
    assert (tmp_path / "runs.md").read_text().count("| tiny |") == 2


def test_nothing_to_redraw(tmp_path):
    with pytest.raises(UserError, match="run without --redraw first"):
        run.main(["figures", f"--out={tmp_path / 'empty'}"])
