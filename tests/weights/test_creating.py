"""Networks by name: the fields that the name stands for, with the weights of a file or without."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vgg_jax
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights


@pytest.mark.parametrize("name", vgg_jax.list_models())
def test_every_name_makes_its_network(name):
    model = vgg_jax.create_model(name, num_classes=10)
    assert (model.num_classes, model.head_window) == (10, 7)
    assert model.norm == ("batch" if name.endswith("_bn") else "none")
    convolutions = [layer for layer in model.layer_names if layer.startswith("conv")]
    digits = "".join(filter(str.isdigit, name))
    if digits:
        assert len(convolutions) + 3 == int(digits)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("norm", ["", "_bn"])
def test_the_functions_of_the_package(depth, norm):
    function = getattr(vgg_jax, f"vgg{depth}{norm}")
    named = vgg_jax.create_model(f"vgg{depth}{norm}", num_classes=7)
    assert function(num_classes=7) == named
    assert function().num_classes == 1000
    assert function.__doc__ == vgg_jax.create_model.__doc__  # what help() shows


def test_it_initialises_and_classifies():
    model = vgg_jax.create_model("vgg11_bn", num_classes=5, image_size=32, head="cifar", width=0.1)
    images = jnp.ones((2, 32, 32, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    logits, endpoints = jax.jit(model.apply)(variables, images)
    assert logits.shape == (2, 5)
    assert "bn5_2" in endpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the file of a narrow vgg16."""
    folder = tmp_path_factory.mktemp("weights")
    model = VGG(variant="D", num_classes=2, width=0.01, head="linear", head_window=1)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    preprocessing = Preprocessing(32, 32, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    weights = Weights(model, dict(variables), preprocessing, ("a", "b"))
    vgg_jax.save_weights(folder / "vgg16.safetensors", weights)
    return folder


def test_weights_of_a_file(saved):
    weights = vgg_jax.create_model("vgg16", weights=saved / "vgg16.safetensors")
    loaded = vgg_jax.load_weights(saved / "vgg16.safetensors")
    assert weights.model == loaded.model
    jax.tree.map(np.testing.assert_array_equal, weights.variables, loaded.variables)
    assert vgg_jax.create_model("D", weights=saved / "vgg16.safetensors").class_names == ("a", "b")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vgg19", {}, r"vgg16.safetensors holds another network than vgg19: variant D, norm none"),
        ("vgg16_bn", {}, "holds another network than vgg16_bn"),
        ("vgg16", {"num_classes": 10}, r"leave out all but weights.*\n.*finetune"),
        ("vgg16", {"image_size": 32}, "leave out all but weights"),
    ],
)
def test_weights_of_another_network_are_refused(saved, name, arguments, message):
    with pytest.raises(UserError, match=message):
        vgg_jax.create_model(name, weights=saved / "vgg16.safetensors", **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vgg61", {}, "unknown model 'vgg61'. Did you mean"),
        ("resnet50", {}, "unknown model 'resnet50'"),
        ("vgg16", {"pretrained": True}, "give weights='hf://timm/vgg16.tv_in1k'"),
        ("vgg16", {"nun_classes": 3}, "argument of create_model 'nun_classes'. Did you mean 'num_"),
        ("vgg16", {"image_size": 33}, "does not fit the head"),
        ("vgg16", {"num_classes": 0}, "must be a whole number"),
        (
            "vgg16",
            {"weights": "IMAGENET1K_V1"},
            "no weights file IMAGENET1K_V1: give a file or an address",
        ),
    ],
)
def test_mistakes_get_a_line_that_helps(name, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        vgg_jax.create_model(name, **arguments)
    assert len(str(error.value).splitlines()) <= 2


def test_the_package_completes_and_suggests_its_names():
    assert {"create_model", "list_models", "vgg16_bn", "__version__"} <= set(dir(vgg_jax))
    result = subprocess.run(
        [sys.executable, "-c", "import vgg_jax; vgg_jax.creat_model"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Did you mean: 'create_model'" in result.stderr
