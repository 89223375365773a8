"""The command line and the Python API on real image files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vgg_jax
from tests.evaluation.nets import NAMES, probabilities_one_by_one, tiny_weights
from vgg_jax.errors import UserError
from vgg_jax.features.predict_command import main
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent
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


def test_whole_command_line_names_the_unreadable_and_does_the_others(folder):
    images = ["plain.png", "broken.jpg", "absent.png", "photo.jpg"]
    result = subprocess.run(
        [sys.executable, "-m", "vgg_jax.predict", "--weights=net.safetensors", *images],
        cwd=folder,
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


def test_python_api(folder, weights):
    images = [folder / "plain.png", (folder / "photo.webp").read_bytes()]
    by_file = vgg_jax.predict(folder / "net.safetensors", images, top=2)
    loaded = vgg_jax.load_weights(folder / "net.safetensors")
    by_weights = vgg_jax.predict(loaded, images, top=2)
    assert by_file == by_weights
    assert [len(each) for each in by_file] == [2, 2]
    first = by_file[0][0]
    assert NAMES[first.label] == first.name
    with pytest.raises(UserError, match=r"broken\.jpg"):
        vgg_jax.predict(loaded, [folder / "broken.jpg"])
    with pytest.raises(UserError, match="top=0"):
        vgg_jax.predict(loaded, images, top=0)


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
