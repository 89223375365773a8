"""The authors' Caffe networks and their conversions: logits are NumPy's, from their arrays."""

import numpy as np
import pytest

from tests.weights import files
from tests.weights.nets import BGR, RGB, assert_close, logits, network
from vgg_jax.errors import UserError
from vgg_jax.weights.caffe import read_caffe
from vgg_jax.weights.importing import import_weights


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("variant", ["A", "D"])
def test_caffemodel(variant, legacy, packed, tmp_path):
    arrays = files.caffe_arrays(variant)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(files.caffemodel(arrays, legacy=legacy, packed=packed))
    weights = import_weights(path, "caffe", network(variant))
    # The same numbers under torchvision's names: both put channels first.
    state = files.torch_state(variant, "none", "torchvision")
    wanted = files.torch_logits(BGR.transpose(0, 3, 1, 2), state, variant, "none", "torchvision")
    assert_close(logits(weights), wanted)


def test_frossards_npz(tmp_path):
    arrays = files.channels_last_arrays("D")
    renamed = {
        key.replace("/kernel", "_W").replace("/bias", "_b"): array for key, array in arrays.items()
    }
    np.savez(tmp_path / "vgg16_weights.npz", **renamed)
    weights = import_weights(tmp_path / "vgg16_weights.npz", "caffe", network("D"))
    assert_close(logits(weights), files.channels_last_logits(RGB, arrays, "D"))


def test_chainers_npz(tmp_path):
    np.savez(tmp_path / "VGG_ILSVRC_16_layers.npz", **files.caffe_arrays("D"))
    weights = import_weights(tmp_path / "VGG_ILSVRC_16_layers.npz", "caffe", network("D"))
    state = files.torch_state("D", "none", "torchvision")
    wanted = files.torch_logits(BGR.transpose(0, 3, 1, 2), state, "D", "none", "torchvision")
    assert_close(logits(weights), wanted)


def test_a_legacy_shape_loses_its_ones_and_a_wrong_one_does_not_pass(tmp_path):
    arrays = files.caffe_arrays("A")
    path = tmp_path / "net.caffemodel"
    path.write_bytes(files.caffemodel(arrays, legacy=True))
    contents = read_caffe(path, network("A"))
    assert contents.arrays["conv1_1/1"].shape == (2,)  # a bias; (1, 1, 1, 2) in the file
    assert contents.arrays["fc6/0"].shape == arrays["fc6/W"].shape
    # As many values in another order of the axes.
    path.write_bytes(files.caffemodel(arrays | {"fc6/W": arrays["fc6/W"].T}, legacy=True))
    with pytest.raises(UserError, match="fc6/0 has shape"):
        import_weights(path, "caffe", network("A"))


def test_pickles_are_refused(tmp_path):
    np.save(tmp_path / "vgg19.npy", {"conv1_1": [1, 2]}, allow_pickle=True)
    np.savez(tmp_path / "vgg19.npz", conv1_1_W=np.array([{}], object), allow_pickle=True)
    (tmp_path / "vgg19.pickle").write_bytes(b"\x80\x04K\x01.")  # the number 1, by protocol 4
    for name in ("vgg19.npy", "vgg19.npz", "vgg19.pickle"):
        with pytest.raises(UserError, match="pickle"):
            import_weights(tmp_path / name, "caffe", network("E"))
