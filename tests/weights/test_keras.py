"""Keras's files, in each of their containers: logits are those of NumPy from their arrays."""

import h5py
import numpy as np
import pytest

from tests.weights import files
from tests.weights.nets import BGR, assert_close, logits, network
from vgg_jax.errors import UserError
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.keras import read_keras


@pytest.mark.parametrize(
    ("variant", "container"), [("D", "legacy"), ("E", "legacy"), ("A", "model"), ("A", "keras3")]
)
def test_keras(variant, container, tmp_path):
    arrays = files.channels_last_arrays(variant)
    files.write_keras(tmp_path / "net.h5", arrays, container)
    weights = import_weights(tmp_path / "net.h5", "keras", network(variant))
    assert_close(logits(weights), files.channels_last_logits(BGR, arrays, variant))


@pytest.mark.parametrize("container", ["legacy", "model", "keras3"])
def test_tensors_have_the_names_of_keras_whatever_the_container(tmp_path, container):
    arrays = files.channels_last_arrays("A")
    files.write_keras(tmp_path / "net.h5", arrays, container)
    contents = read_keras(tmp_path / "net.h5", network("A"))
    assert contents.arrays.keys() == {spec.name for spec in contents.specs.values()}
    for ours, theirs in (
        ("conv1_1/kernel", "block1_conv1/kernel"),
        ("conv5_2/bias", "block5_conv2/bias"),
        ("fc6/kernel", "fc1/kernel"),
        ("fc8/bias", "predictions/bias"),
    ):
        assert contents.specs[ours].name == theirs
        np.testing.assert_array_equal(contents.arrays[theirs], arrays[ours])


def test_hdf5_of_something_else_is_told_from_damage(tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["measurements"] = np.zeros(3)
    with pytest.raises(UserError, match=r"table\.h5 is HDF5, but holds no weights"):
        read_keras(tmp_path / "table.h5", network("A"))
    with h5py.File(tmp_path / "half.h5", "w") as file:
        file.attrs["layer_names"] = [b"block1_conv1"]  # a group that is not there
    with pytest.raises(UserError, match=r"cannot read .*half\.h5 as Keras HDF5"):
        read_keras(tmp_path / "half.h5", network("A"))
