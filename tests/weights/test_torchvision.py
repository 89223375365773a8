"""torchvision's and timm's files: logits are those that NumPy computes from their arrays."""

import numpy as np
import pytest
import safetensors.numpy

from tests.weights import files
from tests.weights.nets import TORCH_IMAGES, assert_close, logits, network
from vgg_jax.errors import UserError
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.torchvision import read_state_dict, torchvision_specs


@pytest.mark.parametrize(("variant", "norm"), files.TORCHVISION)
def test_torchvision(variant, norm, tmp_path):
    state = files.torch_state(variant, norm, "torchvision")
    safetensors.numpy.save_file(state, tmp_path / "net.safetensors")
    weights = import_weights(tmp_path / "net.safetensors", "torchvision", network(variant, norm))
    assert_close(
        logits(weights), files.torch_logits(TORCH_IMAGES, state, variant, norm, "torchvision")
    )


@pytest.mark.parametrize(("variant", "norm"), [("A", "none"), ("B", "batch")])
def test_timm(variant, norm, tmp_path):
    state = files.torch_state(variant, norm, "timm")
    safetensors.numpy.save_file(state, tmp_path / "net.safetensors")
    weights = import_weights(tmp_path / "net.safetensors", "timm", network(variant, norm))
    assert_close(logits(weights), files.torch_logits(TORCH_IMAGES, state, variant, norm, "timm"))


@pytest.mark.parametrize(("variant", "norm"), files.TORCHVISION)
def test_specs_name_every_tensor_of_the_file_once(variant, norm):
    specs = torchvision_specs(network(variant, norm)).values()
    state = files.torch_state(variant, norm, "torchvision")
    wanted = {k: v.shape for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert {spec.name: spec.shape for spec in specs} == wanted
    assert len(specs) == len(wanted)


def test_counts_of_batch_norm_are_left_out(tmp_path):
    state = files.torch_state("A", "batch", "torchvision")
    safetensors.numpy.save_file(state, tmp_path / "net.safetensors")
    found = read_state_dict(tmp_path / "net.safetensors")
    assert len(state) - len(found) == 8  # one for each convolution of A
    for name, array in found.items():
        np.testing.assert_array_equal(array, state[name])


def test_pth(tmp_path):
    torch = pytest.importorskip("torch")
    state = files.torch_state("A", "batch", "torchvision")
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    torch.save(tensors, tmp_path / "net.pth")
    weights = import_weights(tmp_path / "net.pth", "torchvision", network("A", "batch"))
    wanted = files.torch_logits(TORCH_IMAGES, state, "A", "batch", "torchvision")
    assert_close(logits(weights), wanted)

    torch.save({"model": tensors, "hook": print}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="more than tensors"):
        import_weights(tmp_path / "code.pth", "torchvision", network("A", "batch"))
    (tmp_path / "cut.pth").write_bytes((tmp_path / "net.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.pth"):
        import_weights(tmp_path / "cut.pth", "torchvision", network("A", "batch"))
