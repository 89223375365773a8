"""docs/notebooks: their code runs as it stands, and what is stored of it is complete."""

import json
import re
import tomllib
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tests.weights import files
from vgg_jax.models import build_model
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"
INSTALL = re.compile(r'^    %pip install -q "(.*)"$', re.MULTILINE)
NAMES = ["features", "gradients", "train"]


def cells(name: str) -> list[dict]:
    notebook = json.loads((FOLDER / f"{name}.ipynb").read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(name: str, **instead: str) -> dict:
    """Runs the code, with some pieces of it replaced; returns its names."""
    names: dict = {}
    code = "\n".join("".join(cell["source"]) for cell in cells(name))
    code = INSTALL.sub('    raise AssertionError("it is installed")', code)
    for old, new in instead.items():
        assert old in code
        code = code.replace(old, new)
    exec(code, names)
    return names


@pytest.fixture(autouse=True)
def _in_a_folder_without_a_screen(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with mpl.rc_context({"backend": "agg", "figure.max_open_warning": 0}):
        yield


def test_all_are_here():
    assert sorted(path.stem for path in FOLDER.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_was_run_in_order_and_raised_nothing(name):
    code = cells(name)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs
    assert "error" not in {output["output_type"] for output in outputs}


@pytest.mark.parametrize("name", NAMES)
def test_the_first_cell_installs_from_an_address_that_is_true(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    repository = project["urls"].get("Repository")
    wheel = f"./vgg_jax-{project['version']}-py3-none-any.whl[all]"
    expected = f"vgg_jax[all] @ git+{repository}" if repository else wheel
    assert INSTALL.findall("".join(cells(name)[0]["source"])) == [expected]
    assert "OWNER" not in (FOLDER / f"{name}.ipynb").read_text()


def test_train():
    names = run("train", **{"epochs=6": "epochs=1"})
    assert names["history"].curve("eval/top1")[-1][1] > 0.5
    assert Path("digits.safetensors").is_file()


def test_gradients():
    starts = run("gradients")["starts"]
    ratios = {name: float(found["conv1_1"] / found["conv5_3"]) for name, found in starts.items()}
    assert ratios["standard deviation 0.01"] < 1e-6
    assert ratios["He"] > 1e-3
    assert ratios["He, batch norm"] > ratios["He"]


def test_features():
    files.write_keras(Path("net.h5"), files.channels_last_arrays("E"), "legacy")
    model = build_model(files.model_fields("E"), image_size=files.SIDE)
    save_weights("net.safetensors", import_weights("net.h5", "keras", model))
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "painting.jpg"):
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), np.uint8)).save(name)
    names = run(
        "features",
        **{
            "vgg19.safetensors": "net.safetensors",
            "SIDE, ITERATIONS = 192, 30": "SIDE, ITERATIONS = 48, 2",
        },
    )
    assert names["progress"].picture.shape == (48, 60, 3)
    assert set(names["features"]) == {"pool3", "relu5_3"}
