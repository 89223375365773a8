"""The core is installed without extras: what it can do, and what the rest says is missing."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import tiny_weights
from vgg_jax.errors import EXTRAS
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {"opencv-python-headless": "cv2", "scikit-learn": "sklearn", "pillow": "PIL"}
# Those that say themselves what to install, and those that a dependency of ours depends on.
SAYS_ITSELF = {"argcomplete", "h5py", "huggingface_hub", "mlflow", "ray", "torch", "wandb"}
BROUGHT = {"absl", "cycler", "google", "numpy", "orbax", "scipy"}


def modules(requirements: list[str]) -> set[str]:
    names = [re.split(r"[\[>=]", requirement)[0] for requirement in requirements]
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def test_every_module_is_of_the_core_or_of_an_extra():
    optional = PROJECT["optional-dependencies"]
    imported = set()
    for path in (ROOT / "vgg_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    imported -= {"vgg_jax", *sys.stdlib_module_names}
    core = modules(PROJECT["dependencies"])
    assert imported - core - SAYS_ITSELF - BROUGHT == EXTRAS.keys() & imported
    for extra in ("train", "report"):
        named = {module for module, brings in EXTRAS.items() if brings == extra}
        assert named <= modules(optional[extra])
    assert optional["all"] == ["vgg_jax[train,report]"]


def without_extras(code: str) -> subprocess.CompletedProcess[str]:
    """Runs a program where a module of an extra is not found."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({list(EXTRAS)}))\n"
    return subprocess.run(
        [sys.executable, "-c", hide + code], capture_output=True, text=True, check=False, cwd=ROOT
    )


def test_the_core_builds_predicts_extracts_measures_and_reports(tmp_path):
    save_weights(tmp_path / "net.safetensors", tiny_weights())
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "photo.png")
    code = f"""
import jax, jax.numpy as jnp, vgg_jax
from vgg_jax.probes.networks import gradient_norms

net, photos = vgg_jax.load_weights("{tmp_path}/net.safetensors"), ["{tmp_path}/photo.png"]
print([len(found) for found in vgg_jax.predict(net, photos, top=2)])
print(len(vgg_jax.extract_features(net, photos, ["pool1"])))
model = vgg_jax.create_model("vgg11", num_classes=3, width=0.0625, image_size=32)
variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 32, 32, 3)))
print(variables["params"]["conv1_1"]["kernel"].shape)
bound, images = net.model.bind(net.variables), jnp.ones((1, 8, 8, 3))
norms = gradient_norms(bound, lambda model, images: jnp.sum(model(images)[0] ** 2), images)
print("conv1_1/kernel" in norms["weight_grad_norm"])
from pathlib import Path
from vgg_jax.report import build_report
print("<table" in build_report([Path("experiments/start_up/results")]))
"""
    result = without_extras(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["[2]", "1", "(3, 3, 3, 4)", "True", "True"]


@pytest.mark.parametrize(
    ("code", "module", "extra"),
    [
        ("from vgg_jax import fit", "tensorboardX", "train"),
        ("from vgg_jax import explain", "mat", "report"),
    ],
)
def test_from_python_the_extra_is_named(code, module, extra):
    result = without_extras(code)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("ImportError")]
    assert re.search(rf"this needs {module}\w*: pip install 'vgg_jax\[{extra}\]'", line)


def test_on_a_command_line_the_extra_is_named():
    code = (
        "sys.argv[1:] = ['train', '--config=vgg16:digits']\nimport vgg_jax.__main__ as m\nm.run()"
    )
    result = without_extras(code)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: this needs ")
    assert line.endswith("pip install 'vgg_jax[train]', or 'vgg_jax[all]'")
