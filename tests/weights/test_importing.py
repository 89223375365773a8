"""From a file to `Weights`: what becomes of its metadata, and which files are refused."""

import sys

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.weights import files
from tests.weights.nets import network
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import save_weights


def test_metadata_survives_the_store(tmp_path):
    arrays = files.channels_last_arrays("A")
    files.write_keras(tmp_path / "net.h5", arrays, "legacy")
    imported = import_weights(tmp_path / "net.h5", "keras", network("A"))
    save_weights(tmp_path / "net.safetensors", imported)
    loaded = load_weights(tmp_path / "net.safetensors")
    assert loaded.model == imported.model
    assert loaded.preprocessing == Preprocessing(
        73, 64, mean=(103.939, 116.779, 123.68), channel_order="BGR"
    )
    assert loaded.class_names == tuple("0123456")
    assert loaded.origin == {"layout": "keras", "file": "net.h5", "kernel_order": "HWIO"}
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, imported.variables)


# --- Files that do not fit --------------------------------------------------------------------


@pytest.fixture(scope="module")
def good_files(tmp_path_factory):
    """One complete file of each kind, and its layout."""
    folder = tmp_path_factory.mktemp("good")
    arrays = files.channels_last_arrays("A")
    state = files.torch_state("A", "none", "torchvision")
    safetensors.numpy.save_file(state, folder / "net.safetensors")
    files.write_keras(folder / "net.h5", arrays, "legacy")
    model = files.caffemodel(files.caffe_arrays("A"), legacy=False)
    (folder / "net.caffemodel").write_bytes(model)
    np.savez(folder / "net.npz", **files.caffe_arrays("A"))
    return {
        folder / "net.safetensors": "torchvision",
        folder / "net.h5": "keras",
        folder / "net.caffemodel": "caffe",
        folder / "net.npz": "caffe",
    }


@pytest.mark.parametrize("kept", [0, 0.001, 0.5, 0.99])
def test_truncated_files_are_named(kept, good_files, tmp_path):
    for path, layout in good_files.items():
        contents = path.read_bytes()
        (tmp_path / path.name).write_bytes(contents[: int(kept * len(contents))])
        with pytest.raises(UserError, match=path.name):
            import_weights(tmp_path / path.name, layout, network("A"))


def test_files_of_another_kind_are_named(good_files, tmp_path):
    for path, layout in good_files.items():
        (tmp_path / path.name).write_bytes(b"These are no weights at all. " * 100)
        with pytest.raises(UserError, match=path.name):
            import_weights(tmp_path / path.name, layout, network("A"))


@pytest.mark.parametrize(
    ("file", "layout"),
    [("net.pth", "torchvision"), ("net.h5", "keras"), ("net.caffemodel", "caffe")],
)
def test_an_absent_file_is_named_whatever_is_installed(file, layout, monkeypatch):
    for package in ("torch", "h5py"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"no weights file {file}"):
        import_weights(file, layout, network("A"))


def test_another_network_is_told(good_files):
    for path, layout in good_files.items():
        with pytest.raises(UserError, match=r"(?s)missing: .*--variant"):
            import_weights(path, layout, network("B"))


def test_unknown_layout():
    with pytest.raises(UserError, match="'tensorflow'"):
        import_weights("net", "tensorflow", network("A"))
