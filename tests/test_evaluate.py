"""The command line, on class folders and on runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import NAMES, Pictures, tiny_weights
from vgg_jax.convert import main as convert
from vgg_jax.errors import UserError
from vgg_jax.evaluate import main
from vgg_jax.evaluation.probabilities import dataset_probabilities
from vgg_jax.train import main as train
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two networks, and class folders with the images of `Pictures`."""
    folder = tmp_path_factory.mktemp("evaluate")
    for seed in (0, 1):
        save_weights(folder / f"net{seed}.safetensors", tiny_weights(seed))
    pictures = Pictures()
    for index in range(len(pictures)):
        image, label = pictures.load(index)
        place = folder / "images" / NAMES[label]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{index}.png")
    return folder


def test_ensemble_of_weights_on_a_folder(folder, capsys):
    arguments = [
        *(f"--weights={folder}/net{seed}.safetensors" for seed in (0, 1)),
        f"--folder={folder}/images",
        "--protocol=dense",
        "--scales=8,12",
        "--per_class",
        "--confusions",
        f"--json={folder}/out/report.json",
    ]
    assert main(arguments) == 0
    report = json.loads((folder / "out" / "report.json").read_text())
    probabilities, labels = dataset_probabilities(
        [tiny_weights(0), tiny_weights(1)], Pictures(), protocol="dense", scales=(8, 12)
    )
    right = int((probabilities.argmax(1) == labels).sum())
    assert (report["examples"], report["top1_correct"]) == (9, right)
    assert report["top1"] == right / 9
    assert report["top5"] == 1
    assert (report["protocol"], report["scales"]) == ("dense", [8, 12])
    assert len(report["per_class"]) == 3
    text = capsys.readouterr().out
    assert "9 examples, dense, scales 8,12, crop 8" in text
    assert text.count("top-1 error") == 1


def test_whole_command_line(folder):
    result = subprocess.run(
        [sys.executable, "-m", "vgg_jax.evaluate", "--weights=net0.safetensors", "--folder=images"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("images: 9 examples, center, scales 10, crop 8")


def test_a_run_and_its_weights_file_evaluate_alike(tmp_path, capsys):
    run, exported = tmp_path / "run", tmp_path / "run.safetensors"
    config = [
        f"--config={ROOT}/configs/vgg16.py:digits,bn",
        "--config.model.stages=('3-4','3-8')",
        "--config.model.head=linear",
        "--config.data.image_size=8",
        "--config.steps=3",
        "--config.optimizer.ema=0.5",
    ]
    assert train([*config, f"--workdir={run}"]) == 0
    trained = json.loads((run / "summary.json").read_text())["metrics"]
    assert convert(["--from=run", str(run), str(exported)]) == 0
    reports = []
    for arguments in (
        [f"--workdir={run}"],
        [f"--weights={exported}", *config],
        [f"--weights={exported}", f"--workdir={run}"],
    ):
        assert main([*arguments, f"--json={tmp_path}/report.json"]) == 0
        reports.append(json.loads((tmp_path / "report.json").read_text()))
    for report in reports:
        assert report["examples"] == trained["eval/examples"] == 359
        assert report["top1"] == pytest.approx(trained["eval/top1"], abs=1e-9)
        assert report["top5"] == pytest.approx(trained["eval/top5"], abs=1e-9)
        assert report["loss"] == pytest.approx(trained["eval/loss"], rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate"),
        (["--weights={}/net0.safetensors"], "which images"),
        (["--weights={}/none.safetensors", "--folder={}/images"], "no weights file"),
        (["--weights={}/net0.safetensors", "--folder={}/none"], "no folder"),
        (["--workdir={}/none"], "no run in"),
        (["--weights={}/net0.safetensors", "--folder={}/images", "--scales=4"], "give 8 or more"),
        (["--weights={}/net0.safetensors", "--folder={}/images", "--batch_size=0"], "at least 1"),
        (["--weights={}/net0.safetensors", "--scales=256;384"], "such as 256,384,512"),
        (["--weights={}/net0.safetensors", "--config.seed=1"], "give --config=FILE"),
        (["--weights={}/net0.safetensors", "--folder={}/images", "--protocol=all"], "'all'"),
    ],
)
def test_mistakes(arguments, message, folder):
    with pytest.raises(UserError, match=message):
        main([argument.format(folder) for argument in arguments])


def test_an_image_that_cannot_be_decoded_ends_it_by_name(folder, tmp_path):
    (tmp_path / "ant").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "ant" / "good.png")
    (tmp_path / "ant" / "bad.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"bad\.png"):
        main([f"--weights={folder}/net0.safetensors", f"--folder={tmp_path}"])
