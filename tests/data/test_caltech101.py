"""Caltech-101 in its archive: splits, labels, pixels, and what is wrong with an archive."""

import io
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_caltech101 import CLASSES, TEST, TRAIN, write_archive
from vgg_jax.data.caltech101 import open_caltech101
from vgg_jax.data.pipeline import TrainPipeline
from vgg_jax.data.sources import open_source
from vgg_jax.errors import UserError


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("caltech") / "tiny.zip")


def test_splits_have_their_photos_and_no_other(archive):
    for split in range(3):
        train, test = (open_caltech101(archive, f"{part}-{split}") for part in ("train", "test"))
        assert train.class_names == test.class_names == CLASSES
        assert np.bincount(train.labels).tolist() == [TRAIN] * 3
        assert np.bincount(test.labels).tolist() == [TEST] * 3
        assert not set(train.files) & set(test.files)
    every = open_caltech101(archive, "all")
    assert len(set(every.files)) == len(every) > len(train) + len(test)
    first = {*open_caltech101(archive, "train-0").files, *open_caltech101(archive, "test-0").files}
    assert set(every.files[: len(first)]) == first


def test_pixels_and_labels_are_those_of_the_files(archive):
    source = open_caltech101(archive, "test-1")
    with zipfile.ZipFile(archive) as opened:
        for index, file in enumerate(source.files):
            with Image.open(io.BytesIO(opened.read(file))) as image:
                np.testing.assert_array_equal(source[index]["image"], np.asarray(image))
            assert file.startswith(source.class_names[source[index]["label"]])


def test_config_names_it_and_a_copy_in_another_process_reads_it(archive, data_config):
    config = data_config(source="caltech101", dir=str(archive), augment="scale_crop", workers=0)
    source = open_source(config, "train-2")
    batches = [
        TrainPipeline(each, config, seed=0).batch(0)
        for each in (source, pickle.loads(pickle.dumps(source)))
    ]
    np.testing.assert_array_equal(batches[0]["image"], batches[1]["image"])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train-3", "has no split 'train-3'; it has: test-0, test-1, test-2, train-0"),
        ("train", "train_split and --config.data.eval_split"),
    ],
)
def test_a_split_out_of_range_is_told(archive, split, message):
    with pytest.raises(UserError, match=message):
        open_caltech101(archive, split)


def test_a_missing_or_damaged_archive_is_told(archive, tmp_path):
    with pytest.raises(UserError, match=r"needs --config.data.dir=caltech101.zip"):
        open_caltech101(None, "all")
    with pytest.raises(UserError, match="no file"):
        open_caltech101(tmp_path / "none.zip", "all")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(UserError, match="is no archive of Caltech-101"):
        open_caltech101(tmp_path / "text.zip", "all")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("splits.csv", "a,b\n1,2\n")
    with pytest.raises(UserError, match=r"splits.csv \(split, part, file\)"):
        open_caltech101(tmp_path / "other.zip", "all")
    content = bytearray(archive.read_bytes())
    source = open_caltech101(archive, "all")
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo(source.files[0]).header_offset
    content[start + 100 : start + 200] = bytes(100)
    (tmp_path / "damaged.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*ant/image_.*copy the archive again"):
        open_caltech101(tmp_path / "damaged.zip", "all").load(0)
