"""Our own file: exact, complete or not there, and damage is named."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.models.nets import he_start
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights, network_tensors, read_weights, save_weights

MODEL = VGG(
    stages=("3-4, LRN", "3-8, 1-8"),
    num_classes=3,
    norm="batch",
    norm_epsilon=1e-3,
    head="cifar",
    head_features=(5, 6),
    head_window=2,
    dropout=0.25,
    activation="tanh",
    pooling="average",
    matmul_precision="tensorfloat32",
    dtype=jnp.bfloat16,
)
PREPROCESSING = Preprocessing(10, 8, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), scale=1 / 255)


@pytest.fixture(scope="module")
def weights() -> Weights:
    variables = he_start(MODEL, jnp.zeros((1, 8, 8, 3)))
    return Weights(MODEL, dict(variables), PREPROCESSING, ("a", "ü", "c"), {"layout": "test"})


@pytest.fixture
def saved(weights, tmp_path):
    save_weights(tmp_path / "net.safetensors", weights)
    return tmp_path / "net.safetensors"


def test_everything_comes_back(weights, saved):
    loaded = read_weights(saved)
    assert loaded.model == MODEL
    assert loaded.preprocessing == PREPROCESSING
    assert loaded.class_names == ("a", "ü", "c")
    assert loaded.origin == {"layout": "test"}
    assert jax.tree.structure(loaded.variables) == jax.tree.structure(weights.variables)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, weights.variables)
    assert [path.name for path in saved.parent.iterdir()] == ["net.safetensors"]


def test_metadata_names_what_is_decided(saved):
    with safetensors.safe_open(saved, "numpy") as file:
        metadata = file.metadata()
    model = json.loads(metadata["model"])
    assert (model["stages"], model["norm"], model["norm_epsilon"]) == (
        ["3-4, LRN", "3-8, 1-8"],
        "batch",
        1e-3,
    )
    assert (model["head"], model["dropout"], model["activation"]) == ("cifar", 0.25, "tanh")
    assert json.loads(metadata["preprocessing"])["channel_order"] == "RGB"
    assert json.loads(metadata["class_names"]) == ["a", "ü", "c"]


def test_tensors_have_the_names_of_the_parameters():
    assert network_tensors(VGG(variant="D"))["fc6/kernel"] == (7, 7, 512, 4096)
    shapes = network_tensors(MODEL)
    assert next(iter(shapes)).startswith("conv1_1/")
    assert {"bn2_1/mean", "bn2_1/scale", "conv2_2/bias", "fc7/bias", "fc8/kernel"} <= shapes.keys()


def rewritten(path, change_tensors=None, **metadata):
    with safetensors.safe_open(path, "numpy") as file:
        before = file.metadata()
    tensors = safetensors.numpy.load_file(path)
    if change_tensors:
        change_tensors(tensors)
    safetensors.numpy.save_file(tensors, path, before | metadata)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated"),
        (lambda path: path.write_bytes(b"nothing"), "truncated or of another kind"),
        (lambda path: path.unlink(), "no weights file"),
        (lambda path: rewritten(path, format="other"), "convert it first"),
        (lambda path: rewritten(path, model="{"), "model in .* is damaged"),
        (
            lambda path: rewritten(path, origin="[" * 5000 + "]" * 5000),
            "origin in .* nested too deep",
        ),
        (lambda path: rewritten(path, class_names='["a"]'), "names 1 classes for a network of 3"),
        (lambda path: rewritten(path, class_names='["a", 1, {}]'), "not all of them text"),
        (lambda path: rewritten(path, class_names="3"), "metadata of .* damaged"),
        (lambda path: rewritten(path, model="3"), "damaged"),
        (lambda path: rewritten(path, preprocessing="[]"), "damaged"),
        (
            lambda path: rewritten(path, preprocessing='{"resize": 9, "crop": 8, "mean": [1]}'),
            "mean=.* three finite numbers",
        ),
        (lambda path: rewritten(path, image_size='"8"'), "metadata of .* damaged"),
        (lambda path: rewritten(path, model='{"variant": "Z"}'), "unknown variant 'Z'"),
        (lambda path: rewritten(path, lambda t: t.pop("fc7/bias")), "missing: fc7/bias"),
        (lambda path: rewritten(path, lambda t: t.update(x=np.zeros(1))), "unknown: x"),
    ],
)
def test_damage_is_named(saved, damage, message):
    damage(saved)
    with pytest.raises(UserError, match=f"(?s){message}"):
        read_weights(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_unless_asked_for(saved, value):
    def spoil(tensors):
        tensors["fc7/bias"][2] = value

    rewritten(saved, spoil)
    with pytest.raises(UserError, match=r"1 of 6 values of fc7/bias are not finite"):
        read_weights(saved)
    loaded = read_weights(saved, allow_non_finite=True)
    np.testing.assert_equal(np.asarray(loaded.variables["params"]["fc7"]["bias"])[2], value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("net", r"no weights file net: did you mean net\.safetensors\?"),
        ("vgg16", r"an address hf:.*\n.*--variant=vgg16 vgg16\.pth vgg16\.safetensors"),
        ("vgg16_bn.safetensors", r"\n.*--variant=vgg16_bn vgg16_bn\.pth vgg16_bn\.safetensors"),
        ("imagenet", r"an address hf:.*\n.*--variant=D vgg16\.pth vgg16\.safetensors"),
        ("other.safetensors", r"no weights file other\.safetensors$"),
    ],
)
def test_a_file_that_is_not_there_says_what_to_type(saved, monkeypatch, name, message):
    monkeypatch.chdir(saved.parent)
    with pytest.raises(UserError, match=message):
        read_weights(name)
