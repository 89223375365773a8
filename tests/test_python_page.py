"""The Python of docs/python.md, networks.md and weights.md runs as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import vgg_jax
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.models import build_model
from vgg_jax.weights.lpips import MODEL_FIELDS, NO_CLASSIFIER
from vgg_jax.weights.store import Weights
from vgg_jax.weights.torchvision import NORMALIZATION

DOCS = Path(__file__).parent.parent / "docs"


def run(page, **names):
    """Runs the blocks of a page in their order; returns its names."""
    text = (DOCS / f"{page}.md").read_text()
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(block, names)
    return names


def test_the_page_trains_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("python")
    assert names["logits"].shape == (2, 10)
    assert names["endpoints"]["conv4_2"].shape == (2, 4, 4, 128)
    steps, scores = zip(*names["history"].curve("eval/top1"), strict=True)
    assert steps == (47, 94)
    assert scores[-1] > 0.4
    assert vgg_jax.load_weights("digits.safetensors").class_names == tuple(map(str, range(10)))


def test_the_page_on_networks(capsys):
    run("networks")
    assert capsys.readouterr().out == "(8, 10) (8, 4, 4, 512)\n"


def test_the_page_on_weights_measures_a_distance_and_its_gradient(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = build_model(MODEL_FIELDS, image_size=32)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    net = Weights(model, variables, Preprocessing(37, 32, **NORMALIZATION), (NO_CLASSIFIER,))
    vgg_jax.save_weights("vgg16.safetensors", net)
    first, second = np.random.default_rng(0).uniform(0, 255, (2, 1, 32, 32, 3)).astype(np.float32)
    names = run("weights", first=first, second=second)
    assert names["distances"].shape == (1,)
    assert names["distances"][0] > 0
    assert names["gradient"].shape == first.shape
