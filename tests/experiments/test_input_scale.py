"""The paper's start at two input scales, shortened: trained once, resumed, redrawn."""

import dataclasses

import numpy as np
import pytest

from experiments.input_scale import run
from experiments.trainability.cells import load
from vgg_jax.models.variants import VARIANTS
from vgg_jax.runs.tables import read_table, select


def test_trains_once_and_redraws(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "A", ("3-64", "3-128"))
    preset = run.Preset(("A",), (0.01, 0.1), (0.03, 3.0), 1, 1 / 32, 2, 8)
    monkeypatch.setitem(run.PRESETS, "quick", dataclasses.replace(preset, stds=(0.01,)))
    arguments = ["--preset=quick", f"--out={tmp_path}"]
    assert run.main(arguments) == 0
    monkeypatch.setitem(run.PRESETS, "quick", preset)  # as if it had been stopped after the first
    assert run.main(arguments) == 0
    table = read_table(tmp_path / "runs.csv")
    assert len(table["std"]) == 2 * 2 * 2
    rate = table["learning_rate"].astype(float) * table["scale"].astype(float) ** 2
    np.testing.assert_allclose(rate, table["product"].astype(float), rtol=1e-3)
    # Logits near zero: a net with biases of zero is linear in its images, and so are gradients.
    small, large = (
        select(table, std="0.01", scale=scale)["gradient_norm"].astype(float)
        for scale in ("1", "58")
    )
    np.testing.assert_allclose(large / small, 58, rtol=1e-2)
    text = (tmp_path / "table.md").read_text()
    (tmp_path / "table.md").unlink()

    monkeypatch.setattr(run, "train", pytest.fail)
    assert run.main(arguments) == 0
    assert run.main(["--redraw", *arguments]) == 0
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "input_scale.png").stat().st_size > 5_000


def test_the_start_has_the_forward_gain_of_the_full_width():
    batches, _ = load(1, 8)
    params = run.start("A", 0.03, 0, 1 / 4, batches[0]["image"])["params"]
    assert np.std(params["conv1_1"]["kernel"]) == pytest.approx(0.03, rel=0.1)
    assert np.std(params["conv4_1"]["kernel"]) == pytest.approx(0.06, rel=0.02)
    assert not any(np.any(layer["bias"]) for layer in params.values())
