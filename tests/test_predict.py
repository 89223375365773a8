"""The command in a process of its own, and the function that has its name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vgg_jax
from tests.evaluation.nets import tiny_weights
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent


def test_whole_command_line_names_the_unreadable_and_does_the_others(tmp_path):
    save_weights(tmp_path / "net.safetensors", tiny_weights())
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    photo.save(tmp_path / "plain.png")
    photo.save(tmp_path / "photo.jpg")
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "photo.jpg").read_bytes()[:300])
    images = ["plain.png", "broken.jpg", "absent.png", "photo.jpg"]
    result = subprocess.run(
        [sys.executable, "-m", "vgg_jax.predict", "--weights=net.safetensors", *images],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    headings = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert headings == ["plain.png", "photo.jpg"]
    assert "%  bee" in result.stdout
    errors = result.stderr.splitlines()
    assert [line for line in errors if line.startswith("error: cannot read broken.jpg")]
    assert [line for line in errors if "absent.png" in line]
    assert "Traceback" not in result.stderr


def test_importing_is_light_and_the_names_are_there():
    code = (
        "import sys, vgg_jax; assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
        "from vgg_jax import load_weights, predict\n"
        "import vgg_jax.features.predict_command\n"
        "assert callable(vgg_jax.predict) and callable(predict)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="nothing"):
        _ = vgg_jax.nothing
