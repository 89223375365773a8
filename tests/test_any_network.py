"""docs/any_network.md: its Python runs as it stands, and prints what it says."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "any_network.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def after():
    """The names that the page's blocks leave, after each of them."""
    names: dict = {}
    snapshots = []
    for block in BLOCKS:
        exec(block, names)
        snapshots.append(dict(names))
    return snapshots


def test_names_are_paths_input_to_output(after):
    resnet, mlp, transformer = (names["measured"] for names in after[:3])
    assert list(resnet["output_grad_rms"])[:3] == [
        "Conv_0",
        "Residual_0/Conv_0",
        "Residual_0/BatchNorm_0",
    ]
    assert list(resnet["output_grad_rms"])[-1] == "Dense_0"
    assert list(mlp["weight_grad_norm"])[1::2] == [
        "layers/0/kernel",
        "layers/1/kernel",
        "classifier/kernel",
    ]
    assert {"attention/query", "attention", "down"} <= transformer["output_rms"].keys()
    for measured in (resnet, mlp, transformer):
        assert all(value > 0 for value in measured["output_grad_rms"].values())


def test_the_loop_of_thirty_lines_tracks_every_step(after):
    history = after[-1]["history"]
    assert len(history) == 10
    assert len({float(norms["params/layers_0/kernel"]) for norms in history}) == 10
    assert len(BLOCKS[-1].splitlines()) <= 30
