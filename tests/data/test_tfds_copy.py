import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.data import toy_tfds
from vgg_jax.data.arrays import ArraySource
from vgg_jax.data.pipeline import TrainPipeline
from vgg_jax.data.sources import check_labels, open_source
from vgg_jax.data.tfds_copy import TfdsSource
from vgg_jax.errors import UserError


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    for name in ("toy_fixed_size", "toy_mixed_sizes"):
        tfds.builder(name, data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture
def open_toy(data_config, tfds_dir):
    def open_toy(name, split="train", folder=tfds_dir):
        return open_source(data_config(source="tfds", name=name, dir=str(folder)), split)

    return open_toy


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("toy_fixed_size", ArraySource, toy_tfds.ToyFixedSize.SHAPE),
        ("toy_mixed_sizes", TfdsSource, toy_tfds.ToyMixedSizes.SHAPE),
    ],
)
def test_reads_images_labels_and_names(open_toy, name, kind, shape):
    source = open_toy(name)
    assert type(source) is kind
    assert len(source) == 7
    assert source.class_names == ("ant", "bee", "cow")
    numbers = set()
    for index in range(7):
        example = source[index]
        number = int(example["image"][0, 0, 0])  # TFDS shuffles the records it writes
        numbers.add(number)
        assert example["label"] == number % 3
        np.testing.assert_array_equal(example["image"], toy_tfds.toy_image(shape, number))
    assert numbers == set(range(7))
    check_labels(source, 3)
    with pytest.raises(UserError, match="has 2 classes"):
        check_labels(source, 2)


def test_split_may_be_a_part(open_toy):
    assert len(open_toy("toy_fixed_size", "test")) == 3
    assert len(open_toy("toy_mixed_sizes", "train[2:6]")) == 4


def test_workers_read_the_same_batches(open_toy, data_config):
    source = open_toy("toy_mixed_sizes")
    config = data_config(augment="scale_crop", scale=(8, 16), workers=1)
    pipeline = TrainPipeline(source, config, seed=0)
    for step, batch in enumerate(pipeline.iterate(0, 3)):
        for name, values in pipeline.batch(step).items():
            np.testing.assert_array_equal(batch[name], values)


def test_data_dir_defaults_to_the_environment(data_config, tfds_dir):
    program = (
        "from ml_collections import ConfigDict\n"
        "from vgg_jax.data.sources import open_source\n"
        "import sys\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "data = ConfigDict(dict(source='tfds', name='toy_mixed_sizes', dir=None))\n"
        "source = open_source(data, 'train')\n"
        "assert source[0]['image'].ndim == 3\n"
        "assert 'tensorflow' not in sys.modules\n"
        "print(len(source))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"TFDS_DATA_DIR": str(tfds_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("7\n", "")  # also: nothing else is printed or logged


def test_missing_copy_names_the_command_that_makes_it(open_toy, tmp_path):
    with pytest.raises(UserError) as error:
        open_toy("cifar10", folder=tmp_path)
    assert str(error.value).endswith(f"python -m vgg_jax.prepare cifar10 --data_dir={tmp_path}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar1", "TFDS knows no data set 'cifar1'; the nearest names are cifar10, cifar100"),
        ("imagenette/64px", "BuilderConfig 64px not found"),
        ("mnist:9.9.9", r"version 9\.9\.9, only: 3\.0\.1"),
    ],
)
def test_unknown_name(open_toy, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        open_toy(name, folder=tmp_path)


def test_missing_split_names_the_ones_there_are(open_toy):
    for name in ("toy_fixed_size", "toy_mixed_sizes"):
        with pytest.raises(UserError, match="no split 'val'; it has: train, test"):
            open_toy(name, "val")


def test_other_file_format_names_the_command(open_toy, tfds_dir, tmp_path):
    folder = tmp_path / "toy_fixed_size" / "1.0.0"
    folder.mkdir(parents=True)
    for path in (tfds_dir / "toy_fixed_size" / "1.0.0").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=r"(?s)stored as tfrecord.*vgg_jax.prepare toy_fixed_size"):
        open_toy("toy_fixed_size", folder=tmp_path)
