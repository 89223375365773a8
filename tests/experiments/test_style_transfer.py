"""Style transfer: the command line on a small network."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from experiments.style_transfer import curve
from experiments.style_transfer.run import main, prepare_colors, prepare_weights
from tests.evaluation.nets import replaced, tiny_weights
from tests.models.nets import he_start, random_images, small_vgg
from vgg_jax.errors import UserError
from vgg_jax.weights.store import save_weights


def test_paints_and_keeps_the_losses(tmp_path, capsys):
    """The whole command line, on a small network that has the paper's layers."""
    model = small_vgg(stages=("3-4", "3-4", "3-4", "3-4 x2", "3-4"), head_window=1)
    variables = {"batch_stats": {}} | he_start(model, random_images(1, 32))
    weights = tiny_weights()
    own = replaced(
        weights,
        model=model,
        variables=variables,
        preprocessing=dataclasses.replace(weights.preprocessing, resize=32, crop=32),
    )
    save_weights(tmp_path / "vgg19.safetensors", own)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for name, size in {
        "content.png": (40, 50),
        "style.png": (80, 40),
        "photos/first.jpg": (40, 50),
    }.items():
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / name)
    options = [f"--{name}={tmp_path}/{name}.png" for name in ("content", "style")]
    options += [f"--weights={tmp_path}/vgg19.safetensors", f"--normalize={tmp_path}/photos"]
    options += ["--pooling=average", "--size=32", "--iterations=5", "--every=2"]
    options += ["--color=photo", "--variation_weight=0.001"]
    assert main([*options, f"--out={tmp_path}/out"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["2", "4"]
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert record["height_width"] == [32, 40]
    assert record["losses"][-1] < record["losses"][0]
    assert len(record["evaluated"]) > 5
    assert set(record["losses"]) <= set(record["evaluated"])
    assert "--pooling=average" in record["command"]
    assert str(tmp_path) not in record["command"]
    with Image.open(tmp_path / "out/picture.jpg") as picture:
        assert picture.size == (40, 32)
    with Image.open(tmp_path / "out/steps.jpg") as steps:
        assert steps.size == (40 + 16 + 40 * 2, 32)


def test_colours_that_are_kept():
    rng = np.random.default_rng(0)
    photo, painting = rng.integers(60, 200, (2, 8, 9, 3)).astype(np.uint8)
    content, style, finish = prepare_colors(photo, painting, "painting")
    assert content is photo
    assert style is painting
    content, style, _ = prepare_colors(photo, painting, "matched")
    assert content is photo
    np.testing.assert_allclose(style.mean((0, 1)), photo.mean((0, 1)), atol=2)
    content, style, finish = prepare_colors(photo, painting, "photo")
    np.testing.assert_array_equal(style[..., 0], style[..., 1])
    assert style.std() == pytest.approx(content.std(), rel=0.05)
    np.testing.assert_allclose(finish(content), photo, atol=1e-3)  # no step, no change


def test_no_photos_to_normalize_on(tmp_path):
    save_weights(tmp_path / "net.safetensors", tiny_weights())
    with pytest.raises(UserError, match=r"no \*\.jpg in"):
        prepare_weights(tmp_path / "net.safetensors", "max", tmp_path)


def test_losses_beside_those_of_the_notebook(tmp_path):
    """A failed step of the line search does not count; what was not run is said to be so."""
    losses = [9e8, *[4e6] * 49, *[9e9] * 49, 1e6, 5e6]
    (tmp_path / "record.json").write_text(json.dumps({"evaluated": losses}))
    assert curve.main([f"--out={tmp_path}"]) == 0
    lines = (tmp_path / "table.md").read_text().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0][:2] == ["1", "9e+08"]
    assert cells[1] == ["50", "4e+06", "1.000", "1.389e+06", "1.000"]
    assert cells[2] == ["100", "1e+06", "0.250", "7.079e+05", "0.510"]
    assert cells[3][1:3] == ["not run", "not run"]
    assert len(cells) == 11


@pytest.mark.parametrize("record", [None, {}, {"evaluated": []}])
def test_a_folder_without_losses_is_told_how_to_get_them(tmp_path, record):
    if record is not None:
        (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"has no losses: paint with .*style_transfer\.run --out="):
        curve.main([f"--out={tmp_path}"])
