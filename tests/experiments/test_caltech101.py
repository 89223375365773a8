"""Caltech-101 with a tiny network and a tiny archive: from photos to tables, through a kill."""

import csv
import dataclasses
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.caltech101 import cells as experiment_cells
from experiments.caltech101 import features, finetune, report, run
from experiments.caltech101.cells import Cell, Preset, cells, few_of, photos_of
from tests.data.tiny_caltech101 import SPLITS, write_archive
from tests.models.nets import he_start
from vgg_jax.data.caltech101 import open_caltech101
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.features.linear_probe import pooled_endpoints
from vgg_jax.models import VGG
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights, save_weights

EXPERIMENTS = Path(run.__file__).parents[1]
TINY = Preset(counts=(2, 3), test_images=2, scales=(32, 40), tuned_counts=(3,), epochs=1.0)
MODEL = VGG(  # five stages with the published head, for images of 32 pixels
    stages=("3-4", "3-4", "3-4", "3-4", "3-8"),
    num_classes=3,
    head_features=(8, 8),
    head_window=1,
    kernel_init="he_fan_in",
)
# As the command does, but the process is killed while it writes its fifth file.
KILLED = """
import os, signal, sys
import numpy as np
from experiments.caltech101 import features, run
from tests.experiments.test_caltech101 import TINY

run.PRESETS["quick"], features.BATCH_PIXELS = TINY, 1
save, saved = np.save, []

def killing(file, array):
    saved.append(file)
    if len(saved) == 5:
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(file, array)

np.save = killing
run.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An archive, and weights."""
    folder = tmp_path_factory.mktemp("caltech")
    write_archive(folder / "tiny.zip")
    variables = {"batch_stats": {}, **he_start(MODEL, np.zeros((1, 32, 32, 3), np.float32))}
    preprocessing = Preprocessing(36, 32, (110.0,) * 3, (50.0,) * 3, channel_order="BGR")
    weights = Weights(MODEL, variables, preprocessing, ("a", "b", "c"))
    save_weights(folder / "net.safetensors", weights)
    return folder


@pytest.fixture
def arguments(files, tmp_path, monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)
    monkeypatch.setitem(run.PRESETS, "quick", TINY)
    monkeypatch.setattr(features, "BATCH_PIXELS", 1)  # a photo at a time: each shape compiles once
    monkeypatch.setattr(experiment_cells, "COSTS", (0.1, 10.0))
    paths = [f"--weights={files}/net.safetensors", f"--archive={files}/tiny.zip"]
    return [*paths, f"--cache={tmp_path}/cache", f"--out={tmp_path}/out"]


def test_measures_resumes_after_a_kill_and_redraws(arguments, files, tmp_path, monkeypatch):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert len(before) == 4

    assert run.main(["tables", *arguments]) == 0  # nothing is complete: nothing is measured
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| 32, 40 stacked | not run |" in text

    assert run.main(arguments) == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    with (tmp_path / "out" / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == SPLITS * len(cells(TINY))
    by_key = {tuple(row[name] for name in ("endpoint", "scales", "split")): row for row in rows}
    assert float(by_key["pool5", "32", "0"]["class_recall"]) > 0.6  # of colours; guessing is 1/3

    monkeypatch.setattr(features, "pooled_endpoints", pytest.fail)
    text = (tmp_path / "out" / "table.md").read_text()
    assert run.main(arguments) == 0  # all is there
    (tmp_path / "out" / "table.md").unlink()
    assert run.main(["--redraw", f"--out={tmp_path}/out"]) == 0
    assert (tmp_path / "out" / "table.md").read_text() == text
    assert (tmp_path / "out" / "caltech101.png").stat().st_size < 150_000

    source = photos_of(files / "tiny.zip", TINY, "test", 2)
    cache = features.Cache(
        tmp_path / "cache", files / "net.safetensors", open_caltech101(files / "tiny.zip", "all")
    )
    wanted, _ = pooled_endpoints(
        load_weights(files / "net.safetensors"),
        source,
        endpoints=features.ENDPOINTS,
        scale=32,
        batch_size=1,
    )
    found = cache.read(32, source.files)
    for name, where in features.columns(MODEL).items():
        np.testing.assert_allclose(found[:, where], wanted[name], rtol=2e-3, atol=1e-4)


def test_finetunes_a_split_once(arguments, tmp_path, monkeypatch):
    preset = dataclasses.replace(TINY, splits=(1,))
    monkeypatch.setitem(run.PRESETS, "quick", preset)
    assert run.main(["finetune", *arguments]) == 0
    with (tmp_path / "out" / "finetune.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("images_per_class", "split", "train_examples", "examples")
    assert [tuple(row[name] for name in names) for row in rows] == [("3", "1", "9", "6")]
    assert not list((tmp_path / "cache").rglob("checkpoints"))
    monkeypatch.setattr(finetune, "train", pytest.fail)
    assert run.main(["finetune", *arguments]) == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| training images per class | linear SVM on relu7 at 32 | fine-tuning" in text
    line = text.splitlines()[-1]
    assert line.startswith("| 3 | not run | ")
    assert not line.endswith("not run |")


def test_presets_limit_the_photos(files):
    few = Preset(classes=2, counts=(1, 2), test_images=1)
    train, test = (photos_of(files / "tiny.zip", few, part, 0) for part in ("train", "test"))
    assert train.labels.tolist() == [0, 0, 2, 2]
    assert test.labels.tolist() == [0, 2]
    one_each = few_of(train, 1)
    assert one_each.labels.tolist() == [0, 2]
    assert set(one_each.files) < set(train.files)


def test_other_weights_have_another_folder(files, tmp_path):
    photos = photos_of(files / "tiny.zip", TINY, "train", 0)
    (tmp_path / "other").write_bytes(b"other weights")
    caches = [
        features.Cache(tmp_path, file, photos)
        for file in (files / "net.safetensors", tmp_path / "other", files / "net.safetensors")
    ]
    assert caches[0].folder == caches[2].folder != caches[1].folder
    with pytest.raises(UserError, match="do not fit in float16"):
        caches[0].save(32, "ant/0.jpg", np.array([1e5], np.float32))
    caches[0].save(32, "ant/0.jpg", np.array([1.0], np.float32))
    assert not caches[0].missing(32, ["ant/0.jpg"])
    caches[0].path(32, "ant/0.jpg").write_bytes(b"half")
    with pytest.raises(UserError, match=r"is damaged: .*remove it and run again"):
        caches[0].read(32, ["ant/0.jpg"])


def test_the_paper_s_value_stands_beside_its_protocol_alone():
    full = Preset()
    paper = [cell for cell in cells(full) if report.published(cell, full)]
    assert {(cell.endpoint, cell.scales, cell.combined) for cell in paper} == {
        ("relu7", (256, 384, 512), "stacked")
    }
    cell = Cell("relu7", (256,), "alone", 30)
    row = dict(
        zip(
            ("endpoint", "scales", "combined", "images_per_class", "split"),
            cell.key(1),
            strict=True,
        )
    )
    text = report.tables(full, [row | {"class_recall": 0.875}], [])
    assert "| 256 | 87.5 (1 of 3 splits) |" in text
    assert "| 256, 384, 512 stacked | not run |  | 92.3 ± 0.5 |" in text


@pytest.mark.parametrize("preset", ["quick"])
def test_redraws_the_stored_table(preset, tmp_path):
    results = EXPERIMENTS / "caltech101" / "results" / preset
    shutil.copytree(results, tmp_path / "out", ignore=shutil.ignore_patterns("table.md", "*.png"))
    assert run.main(["--redraw", f"--preset={preset}", f"--out={tmp_path}/out"]) == 0
    assert (tmp_path / "out" / "table.md").read_text() == (results / "table.md").read_text()


def test_processes_share_a_cache(files, tmp_path, monkeypatch):
    """What another one stores meanwhile is not computed, and is not counted as computed here."""
    photos = open_caltech101(files / "tiny.zip", "all")
    cache = features.Cache(tmp_path, files / "net.safetensors", photos)
    monkeypatch.setattr(features, "BATCH_PIXELS", 1)
    size = features.columns(MODEL)["relu7"].stop
    computed = []

    def of_a_photo(weights, source, *, endpoints, **_):
        computed.append(len(source))
        if len(computed) == 2:  # the other process gets ahead
            for file in photos.files[:6]:
                cache.save(32, file, np.ones(size))
        parts = features.columns(MODEL).values()
        return {
            name: np.zeros((len(source), part.stop - part.start))
            for name, part in zip(endpoints, parts, strict=True)
        }, None

    monkeypatch.setattr(features, "pooled_endpoints", of_a_photo)
    spent = features.compute(cache, load_weights(files / "net.safetensors"), 32, photos.files, "")
    assert not cache.missing(32, photos.files)
    assert spent["photos"] == sum(computed)
    # Of its six the two that were computed here by then may be done twice.
    assert len(photos.files) - 6 <= sum(computed) <= len(photos.files) - 4
