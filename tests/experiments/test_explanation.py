"""Explanations and their sanity check: a small net on noise, measured once and redrawn."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

from experiments.explanation import report, run
from tests.evaluation.nets import NAMES
from tests.models.nets import small_vgg
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.features.sanity_check import fresh_variables
from vgg_jax.runs.tables import read_table
from vgg_jax.weights.store import Weights, save_weights

PRESET = run.Preset((0, 1, 2), ("fc8", "conv1_1"), ("conv2_1",), (0, 1), ("fc8",), 2)


@pytest.fixture
def folder(tmp_path):
    """Weights of a small net, and photos.csv with three photos."""
    model = small_vgg(head_window=7)
    preprocessing = Preprocessing(30, 28, (110.0, 120.0, 130.0), (50.0,) * 3)
    weights = Weights(model, fresh_variables(model, 5), preprocessing, NAMES)
    save_weights(tmp_path / "net.safetensors", weights)
    rng = np.random.default_rng(0)
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "index"])
        for number in range(3):
            pixels = rng.integers(0, 256, (5, 5, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(pixels).save(tmp_path / f"{number}.png")
            writer.writerow([f"{number}.png", number])
    return tmp_path


def test_measures_once_resumes_and_redraws(folder, monkeypatch):
    pytest.importorskip("skimage", reason="needs the extra metrics")
    monkeypatch.setitem(run.PRESETS, "quick", dataclasses.replace(PRESET, seeds=(0,)))
    out = folder / "out"
    arguments = [f"--weights={folder}/net.safetensors", f"--photos={folder}", f"--out={out}"]
    assert run.main(arguments) == 0
    before = read_table(out / report.TABLE)
    monkeypatch.setitem(run.PRESETS, "quick", PRESET)
    monkeypatch.setattr(run, "_store", pytest.fail)
    assert run.main(arguments) == 0

    table = read_table(out / report.TABLE)
    # Control, gradients, occlusion.
    assert len(table["photo"]) == 3 * 4 + 2 * 3 * 3 * 3 + 2 * 3
    for name, column in before.items():
        np.testing.assert_array_equal(table[name][: len(column)], column)
    assert np.all(np.abs(table["spearman"].astype(float)) <= 1)
    with Image.open(out / report.EXAMPLES) as picture:
        columns, lines = 6, 3
        assert picture.size[0] == columns * (report.PANEL + 2)
        assert picture.size[1] == report.STRIP + lines * (report.PANEL + report.STRIP)

    text = (out / "table.md").read_text()
    assert text.count("not measured") == 2 * 2  # occlusion of two layers
    (out / "table.md").unlink()
    monkeypatch.setattr(run, "maps", pytest.fail)
    assert run.main(arguments) == 0
    assert run.main(["--redraw", f"--out={out}"]) == 0
    assert (out / "table.md").read_text() == text


def test_likeness_of_equal_opposite_and_empty_maps():
    values = np.random.default_rng(0).uniform(size=(9, 9))
    assert report.likeness(values, 3 * values) == pytest.approx({"spearman": 1, "ssim": 1})
    opposite = report.likeness(values, 1 - values)
    assert opposite["spearman"] == pytest.approx(-1)
    assert opposite["ssim"] < 0
    assert report.likeness(values, np.zeros((9, 9)))["spearman"] == 0


def test_says_what_is_missing(folder):
    with pytest.raises(UserError, match="--weights=FILE"):
        run.main([f"--photos={folder}"])
    with pytest.raises(UserError, match="no stored results"):
        run.main(["--redraw", f"--out={folder}/none"])
