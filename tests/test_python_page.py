"""docs/python.md: its Python runs as it stands."""

import re
from pathlib import Path

import vgg_jax

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text()


def test_the_page_trains_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert names["logits"].shape == (2, 10)
    assert names["endpoints"]["conv4_2"].shape == (2, 4, 4, 128)
    steps, scores = zip(*names["history"].curve("eval/top1"), strict=True)
    assert steps == (47, 94)
    assert scores[-1] > 0.4
    assert vgg_jax.load_weights("digits.safetensors").class_names == tuple(map(str, range(10)))
