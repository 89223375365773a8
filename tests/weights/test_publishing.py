"""To the Hub and back: the same weights, and a card that says what they are."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import yaml

import vgg_jax
from tests.models.nets import he_start
from vgg_jax.convert import main
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.publishing import model_card, push_to_hub
from vgg_jax.weights.store import Weights, save_weights

# Of httpx2 about how huggingface_hub 2.4 uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ACCURACY = {
    "dataset": "digits test",
    "protocol": "center",
    "scales": [32],
    "crop": 32,
    "examples": 359,
    "top1": 0.975,
    "top5": 1.0,
    "command": "python -m vgg_jax.evaluate --weights=x",
}


@pytest.fixture(scope="module")
def weights() -> Weights:
    model = VGG(variant="D", norm="batch", num_classes=2, width=0.01, head="linear", head_window=1)
    variables = dict(he_start(model, jnp.zeros((1, 32, 32, 3))))
    origin = {"layout": "run", "file": "digits", "step": 225}
    return Weights(
        model, variables, Preprocessing(36, 32, (1.0,) * 3, (4.0,) * 3), ("a", "b"), origin
    )


def test_there_and_back(hub, weights):
    address = push_to_hub(weights, "owner/digits", licence="apache-2.0", accuracy=ACCURACY)
    commit = address.removeprefix("hf://owner/digits@")
    assert hub.repositories["owner/digits"][commit].keys() == {"README.md", "model.safetensors"}
    loaded = vgg_jax.load_weights(address)
    assert (loaded.model, loaded.preprocessing) == (weights.model, weights.preprocessing)
    assert (loaded.class_names, loaded.origin) == (weights.class_names, weights.origin)
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, weights.variables)
    card = hub.repositories["owner/digits"][commit]["README.md"].decode()
    assert card == model_card(weights, "owner/digits", licence="apache-2.0", accuracy=ACCURACY)


def test_the_card(weights):
    card = model_card(weights, "owner/digits", licence="cc-by-4.0", accuracy=ACCURACY)
    _, header, text = card.split("---\n", 2)
    assert yaml.safe_load(header) == {
        "license": "cc-by-4.0",
        "library_name": "vgg_jax",
        "pipeline_tag": "image-classification",
        "tags": ["vgg", "jax", "flax"],
    }
    for line in (
        "# digits",
        "| network | D |",
        "| normalisation | batch |",
        "| classes | 2 |",
        "| image | shortest side 36, centre crop 32 |",
        "| colours | RGB in 0..255, minus (1.0, 1.0, 1.0), over (4.0, 4.0, 4.0) |",
        "| origin | layout run, file digits, step 225 |",
        "    python -m vgg_jax.predict --weights=hf://owner/digits photo.jpg",
        "| digits test | center | 32 | 32 | 359 | 97.50% | 100.00% |",
        "    python -m vgg_jax.evaluate --weights=x",
    ):
        assert line in text.splitlines()
    assert "Not measured." in model_card(weights, "owner/digits", licence="other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"licence": "free\ntags: [x]"}, "give one as the Hub names it"),
        ({"licence": "mit", "accuracy": {"top1": 0.9}}, "the accuracy has no dataset, protocol"),
        ({"licence": "mit", "repository": "digits"}, "is no address"),
        ({"licence": "mit", "repository": "hf://a/b@v1"}, "has more than owner/name"),
    ],
)
def test_what_cannot_be_pushed(weights, arguments, message):
    with pytest.raises(UserError, match=message):
        push_to_hub(weights, **{"repository": "owner/digits"} | arguments)


def test_without_a_login_the_hub_refuses_in_a_line(hub, weights, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=r"^the Hub refuses hf://owner/digits: ") as error:
        push_to_hub(weights, "owner/digits", licence="mit")
    assert "\n" not in str(error.value)


def test_by_the_command_line(hub, weights, tmp_path, capsys):
    save_weights(tmp_path / "net.safetensors", weights)
    (tmp_path / "accuracy.json").write_text(json.dumps(ACCURACY))
    command = ["--to=hub", str(tmp_path / "net.safetensors"), "hf://owner/digits"]
    with pytest.raises(UserError, match="give --licence=apache-2"):
        main(command)
    assert main(["--licence=mit", f"--accuracy={tmp_path}/accuracy.json", *command]) == 0
    address = capsys.readouterr().out.removeprefix("wrote ").strip()
    assert vgg_jax.load_weights(address).model == weights.model
    (commits,) = hub.repositories.values()
    assert b"97.50%" in commits[address.partition("@")[2]]["README.md"]
