"""Labelled photos by the paper's protocols: a tiny net on noise, and the stored table."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from experiments.photos_evaluation.run import AVERAGES, CELLS, all_classes, likeliest, main
from tests.evaluation.nets import NAMES, tiny_weights
from vgg_jax.errors import UserError
from vgg_jax.weights.store import save_weights

PHOTOS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, and a data folder with photos.csv, photos/ and photos_oracle.json."""
    root = tmp_path_factory.mktemp("photos")
    save_weights(root / "net.safetensors", tiny_weights())
    (root / "photos").mkdir()
    rng = np.random.default_rng(0)
    with (root / "photos.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "index"])
        for number in range(PHOTOS):
            name = f"photos/{number}.png"
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(root / name)
            writer.writerow([name, number % len(NAMES)])
    theirs = {"top1": 0.25, "top5": 0.75, "images": PHOTOS}
    oracle = {"centre_crop": theirs, "dense": {"Q256": theirs, "Q288": theirs}}
    (root / "photos_oracle.json").write_text(json.dumps(oracle))
    return root


def test_every_protocol_is_scored_once_and_redrawn(folder, tmp_path, capsys):
    arguments = [f"--data_dir={folder}", f"--out={tmp_path}"]
    measuring = [f"--weights={folder / 'net.safetensors'}", *arguments]
    assert main(measuring) == 0
    for protocol, scale, count in CELLS:
        report = json.loads((tmp_path / f"{protocol}_{scale}_{count}.json").read_text())
        assert report["examples"] == PHOTOS
        assert report["top1"] == report["top1_correct"] / PHOTOS
        assert report["top5_correct"] == PHOTOS  # of three classes
        assert report["command"].startswith("python -m experiments.photos_evaluation.run")
    with np.load(tmp_path / "dense_256_100.npz") as stored:
        np.testing.assert_allclose(stored["probabilities"].sum(1), 1, atol=2e-3)  # float16
        assert stored["labels"].tolist() == [0, 1, 2, 0]
    table = (tmp_path / "table.md").read_text()
    lines = table.splitlines()[2:]
    assert len(lines) == len(CELLS) + len(AVERAGES)
    assert lines[0].endswith("| 1 | 3 |")  # the oracle's counts
    assert lines[-1].endswith(f"| {PHOTOS} |  |  |")

    capsys.readouterr()
    assert main(measuring) == 0
    assert "photos" not in capsys.readouterr().out  # nothing was measured again
    (tmp_path / "table.md").unlink()
    assert main(["--redraw", *arguments]) == 0
    assert (tmp_path / "table.md").read_text() == table


def test_says_what_is_missing(folder, tmp_path):
    with pytest.raises(UserError, match="--weights=FILE"):
        main([f"--data_dir={folder}", f"--out={tmp_path}"])
    with pytest.raises(UserError, match=r"no photos\.csv"):
        main(["--redraw", f"--data_dir={tmp_path}", f"--out={tmp_path}"])


def test_the_likeliest_classes_are_enough_for_an_average():
    logits = np.random.default_rng(0).normal(scale=3, size=(2, 20, 1000))
    members = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    kept = [likeliest(member) for member in members]
    assert all(part["probabilities"].shape == (20, 50) for part in kept)
    for member, part in zip(members, kept, strict=True):
        found = all_classes(part)
        assert np.count_nonzero(found, axis=1).tolist() == [50] * 20
        np.testing.assert_allclose(found.max(1), member.max(1), rtol=1e-3)  # float16
    exact, stored = (np.mean(parts, 0) for parts in (members, [all_classes(k) for k in kept]))
    assert exact.argmax(1).tolist() == stored.argmax(1).tolist()
    first, again = (np.sort(np.argsort(-mean)[:, :5]) for mean in (exact, stored))
    assert first.tolist() == again.tolist()
