"""Distorted pictures by three metrics: narrow nets on noise, measured once, resumed and redrawn."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from experiments.perceptual_distance import convolutions, figures, run
from experiments.perceptual_distance.distortions import MARGIN, STRENGTHS, distort, inner, patch
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import build_model
from vgg_jax.runs.tables import read_table
from vgg_jax.weights.store import Weights, save_weights
from vgg_jax.weights.torchvision import NORMALIZATION

PHOTOS, COMPARED = 4, 20
WIDTH = 1 / 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two narrow nets D, to compile only once, and a data folder with photos.csv and photos/."""
    root = tmp_path_factory.mktemp("perceptual")
    fields = {"variant": "D", "head": "linear", "num_classes": 1, "width": WIDTH}
    model = build_model(fields, image_size=32)
    initialize = jax.jit(model.init)
    for seed in (0, 1):
        variables = initialize(jax.random.key(seed), jnp.zeros((1, 32, 32, 3)))
        weights = Weights(model, variables, Preprocessing(37, 32, **NORMALIZATION), ("none",))
        save_weights(root / f"{seed}.safetensors", weights)
    (root / "photos").mkdir()
    rng = np.random.default_rng(0)
    with (root / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "index"])
        for number in range(COMPARED):
            name = f"photos/{number}.png"
            pixels = rng.integers(0, 256, (14, 15, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(pixels).save(root / name)
            writer.writerow([name, 999 * (number % 2)])
    return root


def test_distortions_are_what_they_say():
    photo = np.random.default_rng(0).integers(60, 190, (120, 101, 3), np.uint8)
    pixels = patch(photo)
    assert pixels.shape == (64 + 2 * MARGIN, 64 + 2 * MARGIN, 3)
    clean = inner(pixels).astype(float)
    np.testing.assert_array_equal(distort(pixels, "shift", 3)[:, 3:], clean[:, :-3])
    noise = distort(pixels, "noise", 8, (1, 2)) - clean
    assert noise.std() == pytest.approx(8, rel=0.03)
    assert np.any(distort(pixels, "noise", 8, (2, 2)) - clean != noise)
    assert distort(pixels, "blur", 4).std() < 0.2 * clean.std()
    errors = [np.abs(distort(pixels, "jpeg", q) - clean).mean() for q in STRENGTHS["jpeg"]]
    assert errors == sorted(errors)


def test_ranks_and_opposite_pairs():
    """LPIPS calls every cell after the first of all better; the others call it worse."""
    order = np.arange(len(figures.CELLS), dtype=float) + np.zeros((4, 1))
    values = {"lpips": -order, "psnr": -order, "ssim": -order}
    assert figures.rank_correlations(order, -(order**3)) == pytest.approx([-1] * 4)
    for first, second in figures.found_pairs(values, "psnr"):
        assert figures.CELLS.index(first) < figures.CELLS.index(second)
        assert first[0] != second[0]


def test_measures_once_resumes_and_redraws(folder, tmp_path, monkeypatch):
    pytest.importorskip("skimage", reason="needs the extra metrics")
    monkeypatch.setitem(run.PRESETS, "quick", (2, COMPARED))
    monkeypatch.setattr(run, "BATCH_SIZE", 2)
    monkeypatch.setattr(convolutions, "SIDE", 32)
    channels = {"relu1_2": 4, "relu2_2": 8, "relu3_3": 16, "relu4_3": 32, "relu5_3": 32}
    linear = {name: jnp.ones(count) for name, count in channels.items()}
    monkeypatch.setattr(run, "load_lpips", lambda: linear)
    arguments = [f"--weights={folder}/0.safetensors", f"--data_dir={folder}", f"--out={tmp_path}"]
    assert run.main(arguments) == 0
    monkeypatch.setitem(run.PRESETS, "quick", (PHOTOS, COMPARED))
    before = read_table(tmp_path / figures.DISTANCES)
    assert run.main([*arguments, f"--vgg19={folder}/1.safetensors"]) == 0

    table = read_table(tmp_path / figures.DISTANCES)
    cells = len(figures.CELLS) + 2 * len(STRENGTHS["noise"])  # three seeds
    assert len(table["photo"]) == PHOTOS * cells
    for name, column in before.items():
        np.testing.assert_array_equal(table[name][: len(column)], column)
    values = figures.by_photo(table)
    noise = slice(0, len(STRENGTHS["noise"]))
    assert np.all(np.diff(values["psnr"][:, noise]) < -3)
    assert np.all(np.diff(values["ssim"][:, noise]) < 0)
    assert np.all(np.diff(values["lpips"][:, noise]) > 0)
    compared = read_table(tmp_path / figures.CONVOLUTIONS)
    assert set(compared["net"]) == {"VGG-19", "imported", "imported, fed BGR", "random"}
    assert np.all(np.abs(compared["value"]) <= 1.0001)

    text = (tmp_path / "table.md").read_text()
    (tmp_path / "table.md").unlink()
    monkeypatch.setattr(run, "distances", pytest.fail)
    run.measure(None, folder, PHOTOS, tmp_path / figures.DISTANCES)  # nothing is left to measure
    assert run.main(["--redraw", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == text


def test_says_what_is_missing(folder, tmp_path):
    with pytest.raises(UserError, match="--weights=FILE"):
        run.main([f"--data_dir={folder}", f"--out={tmp_path}"])
    with pytest.raises(UserError, match=r"no photos\.csv"):
        run.main([f"--weights={folder}/0.safetensors", f"--data_dir={tmp_path}"])
    with pytest.raises(UserError, match="no stored results"):
        run.main(["--redraw", f"--out={tmp_path}"])
