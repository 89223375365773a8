"""The command that writes endpoints to a file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import tiny_weights
from vgg_jax import extract_features
from vgg_jax.errors import UserError
from vgg_jax.extract import main
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 12, 9, 3), np.uint8)


def test_command_line(tmp_path):
    save_weights(tmp_path / "net.safetensors", tiny_weights())
    for index in range(2):
        Image.fromarray(PIXELS[index]).save(tmp_path / f"{index}.png")
    command = [sys.executable, "-m", "vgg_jax.extract", "--weights=net.safetensors"]
    result = subprocess.run(
        [*command, "--endpoints=relu2_1,fc8", "out/features.npz", "0.png", "1.png"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "2 x 1 x 1 x 3" in result.stdout
    images = [tmp_path / "0.png", tmp_path / "1.png"]
    wanted = extract_features(tmp_path / "net.safetensors", images, ["relu2_1", "fc8"])
    with np.load(tmp_path / "out/features.npz") as file:
        assert set(file) == {"images", "relu2_1", "fc8"}
        assert file["images"].tolist() == ["0.png", "1.png"]
        for name, values in wanted.items():
            np.testing.assert_allclose(file[name], values, rtol=1e-3, atol=1e-3)


def test_out_that_is_no_npz():
    with pytest.raises(UserError, match=r"cat\.jpg comes first"):
        main(["--weights=net.safetensors", "--endpoints=fc8", "cat.jpg", "dog.jpg"])


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    save_weights(tmp_path / "net.safetensors", tiny_weights())
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    out = tmp_path / "net.safetensors" / "out.npz"
    arguments = [f"--weights={tmp_path}/net.safetensors", "--endpoints=pool1"]
    with pytest.raises(UserError, match=f"cannot write {out}"):
        main([*arguments, str(out), f"{tmp_path}/0.png"])
