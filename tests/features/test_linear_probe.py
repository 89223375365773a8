"""Descriptors from their definition, the drawing of images, and the command line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import NAMES, Pictures, tiny_weights
from vgg_jax import extract_features
from vgg_jax.data.arrays import Subset
from vgg_jax.data.preprocessing import resize_shortest
from vgg_jax.errors import UserError
from vgg_jax.features.linear_probe import classify_linearly, few_a_class, image_descriptors
from vgg_jax.linear_probe import main
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.fixture(scope="module")
def folder(weights, tmp_path_factory):
    """A network, and class folders whose images a classifier can tell apart by their brightness."""
    folder = tmp_path_factory.mktemp("probe")
    save_weights(folder / "net.safetensors", weights)
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


@pytest.mark.parametrize("endpoint", ["relu2_1", "fc8"])
def test_descriptors_by_their_definition(weights, endpoint):
    pictures = Subset(Pictures(), np.array([1, 6]))  # one wide, one of the network's size
    found, labels = image_descriptors(weights, pictures, endpoint=endpoint, scales=(8, 12))
    np.testing.assert_array_equal(labels, [1, 0])
    for index in range(2):
        whole = np.asarray(pictures.load(index)[0])
        rows = []
        for scale in (8, 12):
            view = resize_shortest(whole, scale)
            height, width = (max(scale, n // 4 * 4) for n in view.shape[:2])
            top, left = (view.shape[0] - height) // 2, (view.shape[1] - width) // 2
            view = view[top : top + height, left : left + width]
            both = np.stack([view, view[:, ::-1]])
            rows.append(extract_features(weights, both, [endpoint])[endpoint].mean((0, 1, 2)))
        wanted = np.concatenate(rows)
        np.testing.assert_allclose(found[index], wanted / np.linalg.norm(wanted), atol=1e-5)


def test_images_below_the_head_s_size_need_a_convolutional_endpoint(weights):
    square = Subset(Pictures(), np.array([0, 4, 5]))
    assert image_descriptors(weights, square, endpoint="pool2", scales=(4,))[0].shape == (3, 8)
    with pytest.raises(UserError, match="fc8 needs images of 8 pixels"):
        image_descriptors(weights, square, endpoint="fc8", scales=(4,))


def test_few_a_class_draws_as_the_seed_says():
    pictures = Pictures()
    one, same, other = (few_a_class(pictures, 2, seed) for seed in (0, 0, 1))
    assert sorted(one.labels) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(one.labels, same.labels)
    assert [one.load(i)[0].size for i in range(6)] != [other.load(i)[0].size for i in range(6)]
    assert [one.load(i)[1] for i in range(6)] == one.labels.tolist()
    with pytest.raises(UserError, match="class 0 has 3"):
        few_a_class(pictures, 4, 0)


def test_scores_count_and_average_over_classes():
    features = np.eye(2, dtype=np.float32)
    test = features[[0, 0, 0, 0, 1, 0]]
    scores = classify_linearly(features, np.array([3, 7]), test, np.array([3, 3, 3, 3, 7, 7]))
    assert (scores["train_examples"], scores["examples"], scores["top1_correct"]) == (2, 6, 5)
    assert scores["class_recall"] == pytest.approx((1 + 1 / 2) / 2)
    with pytest.raises(UserError, match="two classes"):
        classify_linearly(features, np.array([3, 3]), test, np.zeros(6))


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
