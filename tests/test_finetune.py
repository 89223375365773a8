"""Fine-tuning through the command line: what is taken, trained, kept, and fed."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import tiny_weights
from tests.models.nets import he_start, random_images, small_vgg
from tests.short_runs import arrays
from vgg_jax import load_weights
from vgg_jax.cli import run_command
from vgg_jax.config import load_config
from vgg_jax.convert import main as convert
from vgg_jax.evaluate import main as evaluate
from vgg_jax.features.predict_command import main as predict
from vgg_jax.train import main as train
from vgg_jax.training.setup import build
from vgg_jax.weights.store import save_weights

ROOT = Path(__file__).parent.parent
STEPS = 4


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A network with batch norm for BGR images in 0..1, and other running statistics than drawn."""
    model = small_vgg(norm="batch")
    variables = he_start(model, random_images(1))
    variables["batch_stats"]["bn1_1"]["mean"] += 0.5
    weights = dataclasses.replace(tiny_weights(), model=model, variables=variables)
    scaled = dataclasses.replace(
        weights.preprocessing, scale=1 / 255, mean=(0.4, 0.45, 0.5), std=(0.2, 0.21, 0.22)
    )
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_weights(path, dataclasses.replace(weights, preprocessing=scaled))
    return path


def arguments(file: Path, workdir: Path) -> list[str]:
    return [
        f"--config={ROOT}/configs/finetune.py:{file},digits",
        f"--config.steps={STEPS}",
        f"--config.checkpoint.every_steps={STEPS // 2}",
        "--config.optimizer.ema=0.5",
        "--config.optimizer.frozen=('(conv|bn)1_.*',)",
        f"--workdir={workdir}",
    ]


@pytest.fixture(scope="module")
def run(file, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tuned"
    assert train(arguments(file, workdir)) == 0
    return workdir


def test_frozen_layers_stay_to_the_bit_and_have_no_optimizer_state(file, run):
    start = load_weights(file).variables
    found = arrays(run, STEPS)
    for layer in ("conv1_1", "conv1_2", "bn1_1", "bn1_2"):
        for name, value in start["params"][layer].items():
            for average in ("params", "ema"):
                np.testing.assert_array_equal(found[f"/{average}/{layer}/{name}"], value)
    for layer, moves in (("bn1_1", False), ("bn2_1", True)):
        for name, value in start["batch_stats"][layer].items():
            assert np.any(found[f"/batch_stats/{layer}/{name}"] != value) == moves
    moved = found["/params/conv2_1/kernel"] - start["params"]["conv2_1"]["kernel"]
    assert 0 < np.abs(moved).max() < 0.05
    assert found["/params/fc8/kernel"].shape == (2, 2, 8, 10)
    # The new classifier starts at zero: AdamW moves a weight by its rate a step at the most.
    assert 0 < np.abs(found["/params/fc8/kernel"]).max() < 1.01 * STEPS * 1e-4
    momenta = [name for name in found if name.startswith("/opt_state")]
    assert any("conv2_1/kernel" in name for name in momenta)
    assert not any("conv1_1" in name for name in momenta)


def test_a_run_that_goes_on_ends_bit_identical(file, run, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(run, workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    (workdir / "summary.json").unlink()
    assert train(arguments(file, workdir)) == 0
    one, other = arrays(run, STEPS), arrays(workdir, STEPS)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_inputs_are_the_file_s_in_training_evaluation_and_export(file, run, tmp_path, capsys):
    exported = tmp_path / "tuned.safetensors"
    assert convert(["--from=run", str(run), str(exported)]) == 0
    before, after = load_weights(file), load_weights(exported)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.testing.assert_allclose(
        after.preprocessing.normalize(pixels), before.preprocessing.normalize(pixels), atol=1e-4
    )
    assert after.class_names == tuple("0123456789")
    trained = json.loads((run / "summary.json").read_text())["metrics"]
    for source in (f"--workdir={run}", f"--weights={exported}"):
        data = [] if "workdir" in source else [arguments(file, run)[0]]
        assert evaluate([source, *data, f"--json={tmp_path}/report.json"]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["top1"] == pytest.approx(trained["eval/top1"], abs=1e-9)
        assert report["loss"] == pytest.approx(trained["eval/loss"], rel=1e-4)
    Image.fromarray(pixels[0]).save(tmp_path / "some.png")
    capsys.readouterr()
    assert predict([f"--weights={exported}", "--json", str(tmp_path / "some.png")]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["name"] in "0123456789"


def test_own_photos_give_the_number_of_classes(file, tmp_path):
    for split in ("train", "validation"):
        for name in ("cats", "dogs", "eels"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (12, 12)).save(tmp_path / split / name / "0.png")
    run = build(load_config(f"finetune:{file}", [f"--config.data.dir={tmp_path}"]))
    assert run.config.model.num_classes == run.model.num_classes == 3
    state = jax.eval_shape(run.init_fn)
    assert state.params["fc8"]["bias"].shape == (3,)


def test_config_takes_network_and_inputs_from_the_file(file):
    config = load_config(f"{ROOT}/configs/finetune.py:{file}")
    assert (config.model.norm, config.model.stages) == ("batch", ("3-4 x2", "3-8 x2"))
    assert (config.data.image_size, config.data.eval_resize) == (8, 10)
    assert config.data.channel_order == "BGR"
    assert config.data.mean == pytest.approx((102.0, 114.75, 127.5))
    assert config.data.source == "folder"


@pytest.mark.parametrize(
    ("spec", "overrides", "expected"),
    [
        ("configs/finetune.py", [], "finetune.py:FILE.safetensors"),
        ("configs/finetune.py:none.safetensors", [], "no weights file none.safetensors"),
        ("configs/finetune.py:{},digit", [], "'digits'"),
        ("configs/finetune.py:{}", ["data.dir=tests"], "no split 'train'"),
        ("configs/finetune.py:{},digits", ["model.norm=none"], "model.norm=batch"),
        ("configs/finetune.py:{},digits", ["model.pooling=average"], "model.pooling=max"),
        ("configs/finetune.py:{},digits", ["init.fresh=('fc9.*',)"], "matches no parameter"),
        ("configs/finetune.py:{},digits", ["data.channel_order=RGB"], "data.channel_order=BGR"),
        ("configs/finetune.py:{},digits", ["optimizer.frozen=('cnov.*',)"], "'cnov.*'"),
        ("configs/finetune.py:{},digits", ["optimizer.frozen=('.*',)"], "no parameter to train"),
        (
            "configs/finetune.py:{},digits",
            ["optimizer.frozen=('fc8/(',)"],
            "a regular expression",
        ),
        ("configs/finetune.py:{},digits", ["optimizer.rates=(('fc9/.*',1),)"], "'fc9/.*'"),
        (
            "configs/finetune.py:{},digits",
            ["optimizer.rates=('fc8/.*',1)"],
            "a pair of values",
        ),
        ("configs/vgg16.py:digits", ["init.weights=none.safetensors"], "no weights file"),
        ("configs/vgg16.py:digits", ["data.channel_order=RBG"], "must be one of BGR, RGB"),
    ],
)
def test_mistake(spec, overrides, expected, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    changes = [f"--config.{change}" for change in overrides]
    workdir = tmp_path / "run"
    command = ["train", f"--config={spec.format(file)}", *changes, f"--workdir={workdir}"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as exit_info:
        run_command(train)
    error = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert error.startswith("error: ")
    assert expected in error
    assert len(error.splitlines()) <= 2
    assert not workdir.exists()
