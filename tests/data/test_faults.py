"""Data that is damaged: named in a line, or skipped as far as that was asked for."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data import toy_tfds  # noqa: F401  registers the data sets
from tests.data.conftest import assert_same
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline
from vgg_jax.data.sources import fingerprint, open_source
from vgg_jax.errors import UserError


@pytest.fixture
def many_photos(tmp_path):
    """300 images in two classes, so that 1% are three."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 150), ("val", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                cv2.imwrite(str(tmp_path / split / name / f"{index:03d}.png"), pixels)
    return tmp_path


def spoil(folder: Path, name: str, *indices: int) -> None:
    for path in [folder / "train" / name / f"{index:03d}.png" for index in indices]:
        path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("augment", ["none", "scale_crop"])
def test_skipped_examples_are_counted_and_told(many_photos, data_config, caplog, workers, augment):
    config = data_config(
        source="folder",
        dir=str(many_photos),
        on_error="skip",
        augment=augment,
        workers=workers,
        batch_size=50,
    )
    intact = TrainPipeline(open_source(config, "train"), config, seed=0)
    wanted = [intact.batch(step) for step in range(6)]
    spoil(many_photos, "a", 7, 8)
    spoil(many_photos, "b", 149)  # the last one: the first stands for it
    pipeline = TrainPipeline(open_source(config, "train"), config, seed=0)
    batches = list(pipeline.iterate(0, 6))
    assert pipeline.unreadable == {7, 8, 299}
    assert len([text for text in caplog.messages if "cannot be decoded" in text]) == 3
    stand_ins = {7: 9, 8: 9, 299: 0}
    for step, (batch, before) in enumerate(zip(batches, wanted, strict=True)):
        indices = pipeline.indices(step)
        same = ~np.isin(indices, list(stand_ins))
        np.testing.assert_array_equal(batch["image"][same], before["image"][same])
        assert batch["mask"].all()
        assert set(batch) == {"image", "label", "mask"}
        assert_same(batch, pipeline.batch(step))  # a function of the step, as without
        for place in np.flatnonzero(~same):
            assert batch["label"][place] == stand_ins[int(indices[place])] // 150


def test_too_many_are_an_error(many_photos, data_config):
    config = data_config(source="folder", dir=str(many_photos), on_error="skip", batch_size=50)
    spoil(many_photos, "a", 1, 50, 100, 149)
    pipeline = TrainPipeline(open_source(config, "train"), config, seed=0)
    with pytest.raises(UserError, match=r"4 of 300 training examples .* more than 1%"):
        list(pipeline.iterate(0, 6))


def test_without_being_asked_nothing_is_skipped(many_photos, data_config):
    spoil(many_photos, "a", 3)
    config = data_config(source="folder", dir=str(many_photos), batch_size=50)
    pipeline = TrainPipeline(open_source(config, "train"), config, seed=0)
    with pytest.raises(UserError, match=r"003\.png"):
        list(pipeline.iterate(0, 6))


def test_evaluation_skips_nothing(many_photos, data_config):
    config = data_config(source="folder", dir=str(many_photos), eval_split="val", on_error="skip")
    path = many_photos / "val" / "a" / "000.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=r"000\.png"):
        list(EvalPipeline(open_source(config, "val"), config, batch_size=4))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_folder_that_vanishes_is_an_error(many_photos, data_config, on_error):
    config = data_config(source="folder", dir=str(many_photos), on_error=on_error, batch_size=50)
    batches = TrainPipeline(open_source(config, "train"), config, seed=0).iterate(0, 100)
    next(batches)
    shutil.rmtree(many_photos / "train")
    with pytest.raises(UserError, match=r"\.png|examples cannot be decoded"):
        list(batches)


def damaged_records(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[np.flatnonzero(np.frombuffer(content, np.uint8))[200]] ^= 0xFF
    path.write_bytes(content[: {"halved": len(content) // 2, "cut": 100}.get(damage)])


@pytest.mark.parametrize("damage", ["flipped", "halved", "cut"])
@pytest.mark.parametrize("name", ["toy_fixed_size", "toy_mixed_sizes"])
def test_damaged_records_are_named(tmp_path, data_config, name, damage):
    builder = tfds.builder(name, data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    (path,) = tmp_path.rglob(f"{name}-train*")
    damaged_records(path, damage)
    config = data_config(source="tfds", name=name, dir=str(tmp_path))
    with pytest.raises(UserError, match=f"{name} train cannot be read .* write the data set anew"):
        fingerprint(open_source(config, "train"))  # reads all of seven


def test_damaged_arrays_are_named(tmp_path, data_config):
    path = tmp_path / "some.npz"
    config = data_config(source="npz", dir=str(path))
    images, labels = np.zeros((4, 8, 8, 3)), np.zeros(4, int)
    images[2, 1] = np.nan
    np.savez_compressed(path, x_train=images, y_train=labels)
    with pytest.raises(UserError, match=r"x_train has NaN or infinity, first in example 2"):
        open_source(config, "train")
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"PK" + bytes(100), content[:-400]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"some\.npz"):
            open_source(config, "train")


def test_fingerprints_tell_data_apart(many_photos, data_config):
    config = data_config(source="folder", dir=str(many_photos))
    source = open_source(config, "train")
    assert fingerprint(source) == fingerprint(open_source(config, "train"))
    assert fingerprint(source) != fingerprint(open_source(config, "val"))
    image = np.zeros((20, 20, 3), np.uint8)
    cv2.imwrite(str(many_photos / "train" / "a" / "000.png"), image)
    assert fingerprint(source) != fingerprint(open_source(config, "val"))
    before = fingerprint(open_source(config, "train"))
    (many_photos / "train" / "b" / "149.png").unlink()
    assert fingerprint(open_source(config, "train")) != before
