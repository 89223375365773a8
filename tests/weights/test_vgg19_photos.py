"""The published VGG-19 on real photos, against another implementation (photos_oracle.json)."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from vgg_jax import predict
from vgg_jax.data.folder import FolderSource, imagenet_classes
from vgg_jax.evaluation.probabilities import dataset_probabilities
from vgg_jax.features.predict_command import main
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights

FEW = 8


@pytest.fixture(scope="module")
def vgg19_file(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published VGG-19 as our weights file, converted from Keras's layout: half a minute."""
    folder = tmp_path_factory.mktemp("vgg19")
    script = shared_data / "vgg19_weights.py"
    subprocess.run([sys.executable, script, "keras", folder / "vgg19.h5"], check=True)
    arguments = ["--from=keras", "--variant=E", folder / "vgg19.h5", folder / "vgg19.safetensors"]
    subprocess.run([sys.executable, "-m", "vgg_jax.convert", *arguments], check=True)
    (folder / "vgg19.h5").unlink()
    return folder / "vgg19.safetensors"


@pytest.fixture(scope="module")
def oracle(shared_data):
    return json.loads((shared_data / "photos_oracle.json").read_text())


@pytest.fixture(scope="module")
def vgg19(vgg19_file) -> Weights:
    return load_weights(vgg19_file)


def photos(shared_data: Path, count: int) -> FolderSource:
    with (shared_data / "photos.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:count]
    labels = np.array([int(row["index"]) for row in rows], np.int32)
    names = tuple(imagenet_classes().values())
    return FolderSource(shared_data, [row["file"] for row in rows], labels, names)


def test_what_was_converted(vgg19):
    assert vgg19.model.variant == "E"
    assert vgg19.class_names[305] == "dung beetle"
    assert sum(leaf.size for leaf in jax.tree.leaves(vgg19.variables)) == 143_667_240


def test_preprocessed_arrays_are_the_oracles(shared_data, vgg19, oracle):
    for example in oracle["centre_crop"]["examples"]:
        with Image.open(shared_data / example["file"]) as image:
            resized = image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR)
        wanted = np.asarray(resized)[16:240, 16:240, ::-1] - np.array([103.939, 116.779, 123.68])
        given = vgg19.preprocessing.normalize(
            vgg19.preprocessing.load(shared_data / example["file"])
        )
        # The crop alone is computed: now and then a pixel is rounded the other way.
        assert np.abs(given - wanted).max() < 1.001
        assert np.mean(np.abs(given - wanted) > 1e-3) < 1e-3


def test_probabilities_and_logits_are_the_oracles(shared_data, vgg19, oracle):
    examples = oracle["centre_crop"]["examples"]
    source = photos(shared_data, FEW)
    found, labels = dataset_probabilities([vgg19], source, scales=(256,), batch_size=8)
    for row, label, example in zip(found, labels, examples, strict=False):
        assert label == example["true_index"]
        assert np.argsort(-row)[:5].tolist() == example["top5"]
        np.testing.assert_allclose(row[example["top5"]], example["probabilities"], atol=1e-3)
        # Probabilities give logits but for a constant, which differences lose.
        logits = np.log(row[:5])
        wanted = np.array(example["logits_0_to_4"])
        np.testing.assert_allclose(logits - logits[0], wanted - wanted[0], atol=0.02)
    assert (found.argmax(1) == labels).mean() > 0.7


def test_predict_names_what_is_there(shared_data, vgg19, oracle):
    example = oracle["centre_crop"]["examples"][0]
    (found,) = predict(vgg19, [shared_data / example["file"]])
    assert [prediction.label for prediction in found] == example["top5"]
    assert found[0].name == "dung beetle"
    assert found[0].probability == pytest.approx(example["probabilities"][0], abs=1e-3)


def test_predict_explains_a_photo(shared_data, vgg19_file, oracle, tmp_path):
    """The whole command; Grad-CAM is on the beetle."""
    example = oracle["centre_crop"]["examples"][0]
    photo = tmp_path / "beetle.jpg"
    shutil.copy(shared_data / example["file"], photo)
    assert main([f"--weights={vgg19_file}", "--top=1", "--explain", str(photo)]) == 0
    with Image.open(f"{photo}.explained.png") as picture:
        panels = np.asarray(picture).astype(np.float32)[-224:]
    assert panels.shape == (224, 3 * 224 + 8, 3)
    warm = (2 * panels[:, -224:] - panels[:, :224]).sum(-1)  # Grad-CAM lies half over the photo
    assert warm[75:170, 70:200].mean() > 1.5 * warm.mean()


@pytest.mark.parametrize("scale", [256, 288])
def test_dense_probabilities_are_the_oracles(scale, shared_data, vgg19, oracle):
    examples = oracle["dense"][f"Q{scale}"]["examples"][:2]
    source = photos(shared_data, len(examples))
    found, _ = dataset_probabilities(
        [vgg19], source, protocol="dense", scales=(scale,), batch_size=2
    )
    for row, example in zip(found, examples, strict=True):
        assert np.argsort(-row)[:5].tolist() == example["top5"]
        np.testing.assert_allclose(row[example["top5"]], example["probabilities"], atol=1e-3)
