"""The README's Python examples run as they stand."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from tests.weights import files
from vgg_jax.models import build_model
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.store import save_weights

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_published_weights(tmp_path, monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(from vgg_jax import .*?)```", README, re.S)
    monkeypatch.chdir(tmp_path)
    files.write_keras(tmp_path / "net.h5", files.channels_last_arrays("D"), "legacy")
    model = build_model(files.model_fields("D"), image_size=files.SIDE)
    save_weights("vgg16.safetensors", import_weights("net.h5", "keras", model))
    rng = np.random.default_rng(0)
    for name in ("cat.jpg", "dog.png"):
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), np.uint8)).save(name)
    exec(example, {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cat.jpg ['")
    assert lines[0].count("%") == 3
    assert lines[2] == "(1, 4, 4, 16)"
