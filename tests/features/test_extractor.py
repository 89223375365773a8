"""Endpoints by name, as arrays and by the command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import tiny_weights
from tests.models.nets import forward
from vgg_jax import extract_features
from vgg_jax.errors import UserError
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 12, 9, 3), np.uint8)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


def test_arrays_are_the_model_s_endpoints_whatever_the_batch(weights):
    names = ("pool2", "relu1_2", "fc8")
    _, wanted = forward(weights.model, weights.variables, weights.preprocessing.normalize(PIXELS))
    for batch_size in (2, 16):
        found = extract_features(weights, PIXELS, names, batch_size=batch_size)
        assert list(found) == list(names)
        for name in names:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-4)
            assert found[name].dtype == np.float32


def test_convolutional_endpoints_at_sizes_below_the_head(weights):
    whole = extract_features(weights, PIXELS, ["relu2_2"])["relu2_2"]
    assert whole.shape == (5, 6, 4, 8)
    small = PIXELS[:, :4, :5]
    assert extract_features(weights, small, ["pool2", "conv1_1"])["pool2"].shape == (5, 1, 1, 8)
    with pytest.raises(UserError, match="of at least 8"):
        extract_features(weights, small, ["pool2", "fc8"])
    with pytest.raises(UserError, match="of at least 4"):
        extract_features(weights, small[:, :3], ["pool2"])


@pytest.mark.parametrize(
    ("images", "endpoints", "message"),
    [
        (PIXELS, ["relu1_3"], "unknown endpoint 'relu1_3'. Did you mean"),
        (PIXELS, ["block3_pool"], "a name of Keras's: type pool3"),
        (PIXELS, ["block1_conv2"], "type relu1_2"),
        (PIXELS.astype(np.float32), ["pool1"], "give uint8"),
        (PIXELS[0], ["pool1"], "give uint8"),
        ([], ["pool1"], "0 images"),
        (PIXELS, [], "0 endpoints"),
        (["absent.jpg"], ["pool1"], "absent.jpg"),
    ],
)
def test_mistakes(weights, images, endpoints, message):
    with pytest.raises(UserError, match=message):
        extract_features(weights, images, endpoints)


def test_command_line(tmp_path, weights):
    save_weights(tmp_path / "net.safetensors", weights)
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


def test_out_that_is_no_npz(weights):
    from vgg_jax.extract import main

    with pytest.raises(UserError, match=r"cat\.jpg comes first"):
        main(["--weights=net.safetensors", "--endpoints=fc8", "cat.jpg", "dog.jpg"])
