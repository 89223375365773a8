"""Classes of image files of every kind, as lines and as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import NAMES, probabilities_one_by_one, tiny_weights
from vgg_jax.errors import UserError
from vgg_jax.evaluation.prediction import BATCH
from vgg_jax.features.predict_command import main
from vgg_jax.weights.store import save_weights

RNG = np.random.default_rng(0)
PHOTO = np.asarray(Image.fromarray(RNG.integers(0, 256, (5, 6, 3), np.uint8)).resize((48, 40), 3))


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, weights):
    """Weights, and one picture in many guises."""
    folder = tmp_path_factory.mktemp("predict")
    save_weights(folder / "net.safetensors", weights)
    photo = Image.fromarray(PHOTO)
    photo.save(folder / "plain.png")
    photo.save(folder / "photo.jpg", quality=98, subsampling=0)
    photo.save(folder / "photo.webp", lossless=True)
    alpha = photo.copy()
    alpha.putalpha(Image.fromarray(RNG.integers(0, 256, PHOTO.shape[:2], np.uint8)))
    alpha.save(folder / "alpha.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg", quality=98, subsampling=0)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned a quarter to the right
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    photo.convert("L").save(folder / "grey.png")
    (folder / "broken.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:300])
    return folder


def json_lines(text: str) -> dict[str, list[dict]]:
    lines = map(json.loads, text.splitlines())
    return {Path(line["image"]).name: line["predictions"] for line in lines}


def test_every_guise_is_recognised(folder, weights, capsys):
    names = ["plain.png", "photo.webp", "alpha.png", "turned.png", "photo.jpg", "cmyk.jpg"]
    images = [str(folder / name) for name in [*names, "grey.png"]]
    assert main([f"--weights={folder}/net.safetensors", "--top=3", "--json", *images]) == 0
    found = json_lines(capsys.readouterr().out)
    wanted = probabilities_one_by_one(
        weights, weights.preprocessing.load(folder / "plain.png"), flip=False
    )
    for name in names:
        exact = not name.endswith("jpg")
        given = {p["class"]: p["probability"] for p in found[name]}
        assert [given[i] for i in range(3)] == pytest.approx(wanted, abs=1e-6 if exact else 0.02)
        assert {p["name"] for p in found[name]} == set(NAMES)
        assert sorted(given.values(), reverse=True) == list(given.values())
    grey = np.asarray(Image.fromarray(PHOTO).convert("L").convert("RGB"))
    Image.fromarray(grey).save(folder / "grey_rgb.png")
    wanted = probabilities_one_by_one(
        weights, weights.preprocessing.load(folder / "grey_rgb.png"), flip=False
    )
    given = {p["class"]: p["probability"] for p in found["grey.png"]}
    assert [given[i] for i in range(3)] == pytest.approx(wanted, abs=1e-6)


def test_lines_name_the_classes_most_probable_first(folder, capsys):
    image = str(folder / "plain.png")
    assert main([f"--weights={folder}/net.safetensors", "--top=2", "--json", image]) == 0
    (predictions,) = json_lines(capsys.readouterr().out).values()
    assert main([f"--weights={folder}/net.safetensors", "--top=2", image]) == 0
    assert capsys.readouterr().out.splitlines() == [
        image,
        *(f"  {p['probability']:>7.2%}  {p['name']}" for p in predictions),
    ]


def test_unreadable_images_among_many_are_left_out_and_the_others_keep_their_order(folder, capsys):
    good, bad = str(folder / "plain.png"), str(folder / "broken.jpg")
    images = [good] * (BATCH - 1) + [bad, str(folder / "grey.png"), bad]
    assert main([f"--weights={folder}/net.safetensors", "--json", *images]) == 2
    out, err = capsys.readouterr()
    shown = [json.loads(line)["image"] for line in out.splitlines()]
    assert shown == [image for image in images if image != bad]
    assert len(err.splitlines()) == 2
    assert err.count(f"error: cannot read {bad}") == 2


def test_an_explanation_is_written_beside_the_photo(tmp_path, folder, weights, capsys):
    copy = tmp_path / "photo.png"
    copy.write_bytes((folder / "plain.png").read_bytes())
    arguments = [f"--weights={folder}/net.safetensors", "--explain", "--json"]
    assert main([*arguments, str(tmp_path / "absent.png"), str(copy)]) == 2
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["explanation"] == f"{copy}.explained.png"
    assert line["predictions"][0]["name"] in NAMES
    with Image.open(line["explanation"]) as picture:
        assert picture.size == (3 * 8 + 2 * 4, 8 + 1)
        np.testing.assert_array_equal(
            np.asarray(picture)[-8:, :8], weights.preprocessing.load(copy)
        )
    assert not (tmp_path / "absent.png.explained.png").exists()


def test_methods_of_an_explanation(tmp_path, folder):
    copy = tmp_path / "photo.png"
    copy.write_bytes((folder / "plain.png").read_bytes())
    arguments = [f"--weights={folder}/net.safetensors", "--explain", str(copy)]
    assert main([*arguments, "--methods=guided,occlusion,grad_cam"]) == 0
    with Image.open(f"{copy}.explained.png") as picture:
        assert picture.size == (4 * 8 + 3 * 4, 8 + 1)
    with pytest.raises(UserError, match="unknown method 'guide'"):
        main([*arguments, "--methods=guide"])
    with pytest.raises(UserError, match="--methods=guided draws nothing without --explain"):
        main([f"--weights={folder}/net.safetensors", "--methods=guided", str(copy)])


def test_an_explanation_that_cannot_be_written_is_an_error(folder, tmp_path):
    image = tmp_path / "plain.png"
    image.write_bytes((folder / "plain.png").read_bytes())
    (tmp_path / "plain.png.explained.png").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*plain\.png\.explained\.png"):
        main([f"--weights={folder}/net.safetensors", "--explain", str(image)])
