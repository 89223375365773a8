"""The command that measures a linear classifier."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tiny_caltech101 import write_archive
from tests.evaluation.nets import NAMES, tiny_weights
from vgg_jax.errors import UserError
from vgg_jax.linear_probe import main
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, and class folders whose images a classifier can tell apart by their brightness."""
    folder = tmp_path_factory.mktemp("probe")
    save_weights(folder / "net.safetensors", tiny_weights())
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 2)):
        for level, name in enumerate(NAMES):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                noise = rng.integers(0, 20, (10, 12, 3)) * np.array([1, 2, 3])
                pixels = (noise + 80 * level).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    (folder / "other" / "dog").mkdir(parents=True)
    Image.fromarray(pixels).save(folder / "other" / "dog" / "0.png")
    return folder


def test_command_line(folder):
    command = [sys.executable, "-m", "vgg_jax.linear_probe", "--weights=net.safetensors"]
    result = subprocess.run(
        [*command, "--train=train", "--test=test", "--endpoint=pool2", "--json=out/scores.json"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "12 training images, 6 test images of 3 classes; pool2 at scales 10" in result.stdout
    report = json.loads((folder / "out" / "scores.json").read_text())
    assert report["top1_correct"] >= 4  # of 6; 2 by guessing
    assert report["values"] == 8


def test_takes_the_data_of_a_config(folder, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    archive = write_archive(folder / "caltech101.zip")
    data = ["--config=configs/vgg19.py:caltech101", f"--config.data.dir={archive}"]
    data += ["--config.data.train_split=train-1", "--config.data.eval_split=test-1"]
    weights = f"--weights={folder}/net.safetensors"
    assert main([weights, *data, "--endpoint=pool2", "--scales=16", "--images_per_class=2"]) == 0
    assert "6 training images, 6 test images of 3 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train={}/train"], "Give --train=DIR and --test=DIR, or --config=FILE"),
        (["--train={}/train", "--test={}/none"], "no folder"),
        (["--train={}/train", "--test={}/other"], "different classes"),
        (["--train={}/train", "--test={}/test"], "unknown endpoint 'relu7'"),
        (["--train={}/train", "--test={}/test", "--images_per_class=9"], "class 0 has 4"),
        (["--train={}/train", "--test={}/test", "--scales=a"], "such as 256,384,512"),
        (["--train={}/train", "--test={}/test", "--batch_size=0"], "at least 1"),
    ],
)
def test_mistakes(arguments, message, folder):
    command = [f"--weights={folder}/net.safetensors", *(a.format(folder) for a in arguments)]
    with pytest.raises(UserError, match=message):
        main(command)
