"""Weights by an address of the Hub: ours as they are, timm's with their own network and crop."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import vgg_jax
from tests.models.nets import he_start
from tests.weights import files
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.features.predict_command import main
from vgg_jax.models import VGG
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.loading import describe_weights, load_weights
from vgg_jax.weights.store import Weights, save_weights

TIMM = {
    "architecture": "vgg16",
    "num_classes": 3,
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "interpolation": "bilinear",
        "crop_pct": 0.875,
        "mean": [0.5, 0.25, 0.125],
        "std": [0.2, 0.3, 0.4],
    },
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A weights file of a narrow vgg16."""
    model = VGG(variant="D", num_classes=2, width=0.01, head="linear", head_window=1)
    variables = he_start(model, jnp.zeros((1, 32, 32, 3)))
    preprocessing = Preprocessing(32, 32, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_weights(path, Weights(model, dict(variables), preprocessing, ("a", "b")))
    return path


def test_our_own_file_from_the_hub(hub, saved):
    commit = hub.commit("owner/net", {"model.safetensors": saved.read_bytes()})
    address = f"hf://owner/net@{commit}"
    loaded = load_weights(address)
    local = load_weights(saved)
    assert (loaded.model, loaded.class_names) == (local.model, local.class_names)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, local.variables)
    assert describe_weights(address).model == local.model
    assert vgg_jax.create_model("vgg16", weights=address).preprocessing == local.preprocessing
    with pytest.raises(UserError, match="holds another network than vgg19"):
        vgg_jax.create_model("vgg19", weights=address)


def test_predict_by_its_command_line(hub, saved, tmp_path, capsys):
    hub.commit("owner/net", {"model.safetensors": saved.read_bytes()})
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    arguments = ["--json", str(tmp_path / "red.png")]
    assert main(["--weights=hf://owner/net", *arguments]) == 0
    predictions = json.loads(capsys.readouterr().out)["predictions"]
    assert {each["name"] for each in predictions} == {"a", "b"}
    with pytest.raises(UserError, match=r"^no repository hf://owner/other"):
        main(["--weights=hf://owner/other", *arguments])


@pytest.fixture
def timm(hub, monkeypatch):
    """A function that publishes a narrow network as timm does, with changes of its config."""
    state = files.torch_state("D", "none", "timm")
    fields = files.model_fields("D")
    monkeypatch.setattr("vgg_jax.weights.loading.network_fields", lambda name: fields)

    def publish(**changes) -> str:
        settings = TIMM["pretrained_cfg"] | changes.pop("pretrained_cfg", {})
        config = TIMM | {"num_classes": files.CLASSES} | changes | {"pretrained_cfg": settings}
        content = {"model.safetensors": safetensors.numpy.save(state)}
        return hub.commit("timm/vgg16", content | {"config.json": json.dumps(config).encode()})

    return publish


def test_timms_weights_with_their_preprocessing(timm, tmp_path):
    commit = timm()
    weights = load_weights("hf://timm/vgg16")
    path = tmp_path / "timm.safetensors"
    safetensors.numpy.save_file(files.torch_state("D", "none", "timm"), path)
    converted = import_weights(path, "timm", weights.model)  # whose logits have a test of theirs
    jax.tree.map(np.testing.assert_array_equal, weights.variables, converted.variables)
    settings = TIMM["pretrained_cfg"]
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    assert weights.preprocessing == Preprocessing(73, 64, mean, std, scale=1 / 255)
    assert (weights.origin["hub"], weights.origin["commit"]) == ("hf://timm/vgg16", commit)
    described = describe_weights("hf://timm/vgg16")
    assert described.model == weights.model
    assert {type(leaf) for leaf in jax.tree.leaves(described.variables)} == {jax.ShapeDtypeStruct}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained_cfg": {"interpolation": "bicubic"}}, "interpolation is bicubic; ours is bil"),
        ({"pretrained_cfg": {"crop_pct": 0}}, r"config\.json is none of timm's for a VGG"),
        ({"pretrained_cfg": {"input_size": []}}, r"config\.json is none of timm's for a VGG"),
        ({"num_classes": 5}, r"does not hold the tensors of this network .*head\.fc"),
    ],
)
def test_a_config_that_is_wrong(timm, changes, message):
    timm(**changes)
    with pytest.raises(UserError, match=message):
        load_weights("hf://timm/vgg16")


def test_another_network_of_timm(hub):
    content = safetensors.numpy.save({"x": np.zeros(1)})
    config = json.dumps(TIMM | {"architecture": "resnet50"}).encode()
    hub.commit("timm/resnet50", {"model.safetensors": content, "config.json": config})
    with pytest.raises(UserError, match="unknown model 'resnet50'"):
        load_weights("hf://timm/resnet50")
    hub.commit("timm/resnet50", {"model.safetensors": content})
    with pytest.raises(UserError, match=r"^hf://timm/resnet50 has no file config\.json$"):
        load_weights("hf://timm/resnet50")
