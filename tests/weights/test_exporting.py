"""Out again: torchvision's layout bit for bit, and StableHLO that computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from jax import export

from tests.evaluation.nets import tiny_weights
from tests.weights import files
from vgg_jax.errors import UserError
from vgg_jax.models import build_model
from vgg_jax.weights.exporting import export_stablehlo, export_torchvision
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import save_weights


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """vgg11_bn from torchvision's layout: its path, and our file's."""
    folder = tmp_path_factory.mktemp("torchvision")
    state = files.torch_state("A", "batch", "torchvision")
    safetensors.numpy.save_file(state, folder / "theirs.safetensors")
    model = build_model(files.model_fields("A", "batch"), image_size=files.SIDE)
    weights = import_weights(folder / "theirs.safetensors", "torchvision", model)
    save_weights(folder / "ours.safetensors", weights)
    return folder / "theirs.safetensors", folder / "ours.safetensors"


def test_back_to_torchvision_is_exact(imported, tmp_path):
    theirs, ours = imported
    export_torchvision(tmp_path / "back.safetensors", load_weights(ours))
    before, after = (
        safetensors.numpy.load_file(path) for path in (theirs, tmp_path / "back.safetensors")
    )
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype
        np.testing.assert_array_equal(after[name], tensor)


def test_pth_loads_into_the_layers_of_torch(imported, tmp_path):
    torch = pytest.importorskip("torch")
    theirs, ours = imported
    export_torchvision(tmp_path / "back.pth", load_weights(ours))
    state = torch.load(tmp_path / "back.pth", weights_only=True)
    for name, tensor in safetensors.numpy.load_file(theirs).items():
        np.testing.assert_array_equal(state[name].numpy(), tensor)


def test_a_network_that_torchvision_has_not(imported, tmp_path):
    weights = load_weights(imported[1])
    model = weights.model.clone(pooling="average")
    with pytest.raises(UserError, match="pooling 'max'"):
        export_torchvision(tmp_path / "no.pth", type(weights)(**(vars(weights) | {"model": model})))


@pytest.mark.parametrize("batch", [1, 3])
def test_stablehlo_computes_the_same(imported, tmp_path, batch, stablehlo):
    weights = load_weights(imported[1])
    images = np.random.default_rng(0).integers(0, 256, (batch, 64, 64, 3), np.uint8)
    logits, _ = jax.jit(weights.model.apply)(
        weights.variables, weights.preprocessing.normalize(jnp.asarray(images))
    )
    function = export.deserialize(bytearray(stablehlo.read_bytes()))
    assert function.platforms == ("cpu", "cuda", "tpu")
    probabilities = function.call(safetensors.numpy.load_file(imported[1]), images)
    np.testing.assert_allclose(probabilities, jax.nn.softmax(logits), rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def stablehlo(imported, tmp_path_factory):
    path = tmp_path_factory.mktemp("stablehlo") / "net.stablehlo"
    export_stablehlo(path, load_weights(imported[1]))
    return path


def test_a_folder_that_cannot_be_written(imported, tmp_path):
    (tmp_path / "file").touch()
    weights = load_weights(imported[1])
    with pytest.raises(UserError, match="cannot write"):
        export_torchvision(tmp_path / "file" / "x.safetensors", weights)
    with pytest.raises(UserError, match="cannot write"):
        export_stablehlo(tmp_path / "file" / "x.stablehlo", tiny_weights())
