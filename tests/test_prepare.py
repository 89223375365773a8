import importlib.util
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from tests.data import toy_tfds
from vgg_jax import prepare
from vgg_jax.data.tfds_copy import open_tfds
from vgg_jax.errors import UserError


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vgg_jax.prepare", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_writes_a_copy_that_training_reads(tmp_path):
    builder = tfds.builder("toy_mixed_sizes", data_dir=tmp_path, file_format="array_record")
    prepare.write(builder, tmp_path)
    assert len(open_tfds("toy_mixed_sizes", str(tmp_path), "test")) == 3


def test_prepared_already(tmp_path, capsys):
    builder = toy_tfds.ToyFixedSize(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    assert prepare.main(["toy_fixed_size", f"--data_dir={tmp_path}"]) == 0
    assert f"toy_fixed_size is already prepared: {builder.data_path}" in capsys.readouterr().out


def test_unknown_data_set_names_the_nearest():
    result = run("cifar1")
    assert result.returncode == 2
    assert result.stderr == (
        "error: TFDS knows no data set 'cifar1'; the nearest names are "
        "cifar10, cifar100, cifar10_n, cifar10_h, cifar10_1\n"
    )


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="the extra 'prepare' is installed"
)
def test_missing_extra_is_one_line(tmp_path):
    result = run("cifar10", f"--data_dir={tmp_path}")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "pip install tensorflow-cpu" in result.stderr
    assert result.stdout == ""


def test_files_to_be_downloaded_by_hand_are_explained(tmp_path):
    builder = tfds.builder("imagenet2012", data_dir=tmp_path, file_format="array_record")
    with pytest.raises(UserError, match=r"(?s)by hand into .*manual:\n.*ILSVRC2012_img_train\.tar"):
        prepare.write(builder, tmp_path)


def test_failed_write_is_one_line(tmp_path):
    builder = toy_tfds.ToyFixedSize(data_dir=tmp_path, file_format="array_record")
    (tmp_path / "toy_fixed_size").write_text("in the way")
    with pytest.raises(UserError, match="cannot prepare toy_fixed_size: "):
        prepare.write(builder, tmp_path)
