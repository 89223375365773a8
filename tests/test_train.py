"""What users get wrong, each through the command line: exit status 2, two lines, nothing lost."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from vgg_jax import train
from vgg_jax.cli import run_command
from vgg_jax.convert import main as convert
from vgg_jax.features.predict_command import main as predict

DIGITS = "--config=configs/vgg16.py:digits"


@pytest.fixture
def command(pytestconfig, monkeypatch, tmp_path, capsys):
    """Runs the command line; returns its exit status and what it wrote to the error stream."""
    monkeypatch.chdir(pytestconfig.rootpath)

    def run(*arguments: str) -> tuple[int, str]:
        workdir = [] if any("--workdir" in a for a in arguments) else [f"--workdir={tmp_path}/run"]
        monkeypatch.setattr(sys, "argv", ["train", *arguments, *workdir])
        with pytest.raises(SystemExit) as exit_info:
            run_command(train.main)
        return exit_info.value.code, capsys.readouterr().err

    return run


def write_npz(folder, labels):
    images = np.zeros((len(labels), 32, 32, 3), np.uint8)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(folder / "some.npz", **arrays)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([DIGITS, "--config.optimizer.lerning_rate=1"], "optimizer.learning_rate"),
        ([DIGITS, "--config.steps=many"], "of type int"),
        (["--config=configs/vgg61.py"], "configs/vgg16.py"),
        ([DIGITS, "--config.model.variant=F"], "A-LRN"),
        ([DIGITS, "--config.model.stages=('3x64',)"], "3x64"),
        ([DIGITS, "--config.model.kernel_init=he_fan_inn"], "he_fan_in"),
        ([DIGITS, "--config.model.norm=bacth"], "batch"),
        ([DIGITS, "--config.model.head=imagnet"], "imagenet"),
        ([DIGITS, "--config.model.activation=rellu"], "relu"),
        ([DIGITS, "--config.model.pooling=maxx"], "max"),
        ([DIGITS, "--config.compute_dtype=float16"], "bfloat16"),
        ([DIGITS, "--config.optimizer.name=sdg"], "sgd"),
        ([DIGITS, "--config.optimizer.schedule=cosin"], "cosine"),
        ([DIGITS, "--config.optimizer.decay_on=('kernal',)"], "matches no parameter"),
        ([DIGITS, "--config.data.source=digit"], "digits"),
        ([DIGITS, "--config.data.augment=crop"], "pad_crop"),
        ([DIGITS, "--config.data.train_split=validation"], "train"),
        ([DIGITS, "--config.data.batch_size=0"], "from 1 to"),
        ([DIGITS, "--config.data.cutout=-8"], "from 0 to"),
        ([DIGITS, "--config.data.image_size=40"], "32 or 64"),
        ([DIGITS, "--config.seed=-1"], "config.seed=-1: must be a whole number from 0"),
        ([DIGITS, "--config.data.mean=(1.0,2.0)"], "must be a tuple of 3 values"),
        ([DIGITS, "--config.model.stages=('3-64 x99999999',)"], "malformed stage"),
        ([DIGITS, "--config.data.image_size=16"], "32"),
        ([DIGITS, "--config.parallel.mode=map"], "pmap"),
        ([DIGITS, "--config.parallel.model=3"], "does not divide 4 devices"),
        (
            [DIGITS, "--config.parallel.mode=pmap", "--config.parallel.shard_optimizer=true"],
            "shard_optimizer=false",
        ),
        ([DIGITS, "--config.matmul_precision=float16"], "tensorfloat32"),
        ([DIGITS, "--processes=2"], "--coordinator"),
        ([DIGITS, "--coordinator=here", "--processes=2", "--process_id=0"], "HOST:PORT"),
        ([DIGITS, "--coordinator=a:1", "--processes=2", "--process_id=2"], "0 to 1"),
        ([DIGITS, "--config.optimizer.schedule=plateau", "--config.eval.every_steps=0"], "eval."),
        (["--config=configs/vgg16.py:cifar10", "--config.data.dir=/nowhere"], "vgg_jax.prepare"),
        ([DIGITS, "--config.seed", "-1"], "config.seed=-1: must be"),
        ([DIGITS, "--workdir=/proc/run"], "--workdir"),
    ],
    ids=lambda value: value[-1].rpartition("config.")[2] if isinstance(value, list) else "",
)
def test_mistake(command, arguments, expected):
    status, stderr = command(*arguments)
    assert status == 2
    assert expected in stderr
    assert stderr.startswith("error: ")
    assert len(stderr.splitlines()) <= 2
    assert "Traceback" not in stderr


def test_labels_out_of_range(command, tmp_path):
    write_npz(tmp_path, np.array([0, 1, 12, 3], np.int32))
    status, stderr = command(
        DIGITS, "--config.data.source=npz", f"--config.data.dir={tmp_path}/some.npz"
    )
    assert status == 2
    assert "0 to 12" in stderr


def test_unreadable_image(command, tmp_path):
    for split in ("train", "val"):
        for name in ("cats", "dogs"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(8):
                path = tmp_path / split / name / f"{i}.png"
                cv2.imwrite(str(path), np.full((40, 40, 3), 16 * i, np.uint8))
    broken = tmp_path / "train" / "cats" / "5.png"
    broken.write_text("not an image")
    status, stderr = command(
        DIGITS,
        "--config.model.width=0.0625",
        "--config.data.source=folder",
        f"--config.data.dir={tmp_path}",
        "--config.data.eval_split=val",
        "--config.data.augment=scale_crop",
        "--config.data.scale=(36,36)",
        "--config.data.eval_resize=36",
        "--config.data.batch_size=16",
        "--config.eval.batch_size=16",
        "--config.model.stages=('3-4','3-4','3-4','3-4','3-4')",
        "--config.steps=1",
    )
    assert status == 2
    assert str(broken) in stderr
    assert "Traceback" not in stderr


def test_another_config_in_the_same_workdir_lists_the_differences(command, tmp_path):
    tiny = [DIGITS, "--config.data.image_size=8", "--config.model.stages=('3-4','3-8')"]
    tiny += ["--config.steps=1", "--config.model.head_features=(8,)"]
    workdir = f"--workdir={tmp_path / 'run'}"
    assert command(*tiny, workdir)[0] == 0
    # What does not change the computation may change; the rest may not.
    assert (
        command(*tiny, workdir, "--config.log.every_steps=3", "--config.checkpoint.keep=1")[0] == 0
    )
    status, stderr = command(*tiny, workdir, "--config.seed=4", "--config.model.dropout=0.1")
    assert status == 2
    assert "model.dropout: 0.0 there, 0.1 now; seed: 0 there, 4 now" in stderr
    assert (tmp_path / "run" / "summary.json").exists()


def test_import_is_light_and_without_tensorflow():
    code = (
        "import sys, vgg_jax, vgg_jax.train; light = 'jax' not in sys.modules; "
        "import vgg_jax.training.loop; print(light, 'tensorflow' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["True", "False"]


def test_an_incomplete_config_is_named_in_two_lines(command, tmp_path):
    path = tmp_path / "own.py"
    path.write_text(
        "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()\n"
    )
    status, stderr = command(f"--config={path}")
    assert status == 2
    (line,) = stderr.splitlines()
    assert line.startswith(
        "error: config has no seed, epochs, steps and 72 other keys; change what"
    )
    assert "base() of vgg_jax.configs.base returns" in line


@pytest.fixture
def pets(tmp_path):
    """Arguments of a short run on photos of two classes, in a folder of their own."""
    folder = tmp_path / "my pets.v2"
    for split in ("train", "val"):
        for name in ("cats", "dogs"):
            (folder / split / name).mkdir(parents=True)
            for i in range(2):
                pixels = np.full((40, 40, 3), 60 * i, np.uint8)
                cv2.imwrite(str(folder / split / name / f"{i}.png"), pixels)
    return [
        "--config=configs/vgg11.py",
        "--config.data.source=folder",
        f"--config.data.dir={folder}",
        "--config.data.image_size=8",
        "--config.data.eval_resize=8",
        "--config.data.scale=(8,8)",
        "--config.data.batch_size=4",
        "--config.data.workers=0",
        "--config.eval.batch_size=4",
        "--config.model.stages=('3-4','3-8')",
        "--config.model.head=linear",
        "--config.optimizer.schedule=constant",
    ]


def test_own_photos_give_the_classes_and_their_names(command, pets, tmp_path, capsys):
    status, error = command(*pets, "--config.steps=1")
    assert (status, error.splitlines()[1]) == (2, "Type --config.data.eval_split=val")
    run, photo = tmp_path / "run", tmp_path / "my pets.v2/val/dogs/1.png"
    arguments = [*pets, "--config.data.eval_split=val", f"--workdir={run}"]
    assert train.main([*arguments, "--config.steps=1"]) == 0
    said = capsys.readouterr().out
    assert "my pets.v2 val top-1" in said
    assert "if these are all" not in said
    protocol = json.loads((run / "summary.json").read_text())["protocol"]
    assert (protocol["dataset"], protocol["split"]) == ("my pets.v2", "val")
    assert json.loads((run / "config.json").read_text())["model"]["num_classes"] == 2

    assert train.main([*arguments, "--config.steps=2"]) == 0
    assert "resuming after step 1" in capsys.readouterr().out
    assert convert(["--from=run", str(run), f"{tmp_path}/pets.safetensors"]) == 0
    assert ", 2 classes;" in capsys.readouterr().out
    assert predict([f"--weights={tmp_path}/pets.safetensors", "--json", str(photo)]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert {each["name"] for each in found} == {"cats", "dogs"}
    assert sum(each["probability"] for each in found) == pytest.approx(1, abs=1e-5)

    (tmp_path / "my pets.v2/train/eels").mkdir()
    (tmp_path / "my pets.v2/train/dogs/0.png").rename(tmp_path / "my pets.v2/train/eels/0.png")
    status, error = command(*arguments, "--config.steps=3")
    assert (status, "labels run from 0 to 2, but the model has 2" in error) == (2, True)


def test_more_classes_than_a_folder_without_splits_has_are_told(
    pets, pytestconfig, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(pytestconfig.rootpath)
    folder = f"--config.data.dir={tmp_path / 'my pets.v2' / 'train'}"  # without splits
    whole = [folder, "--config.data.train_split=", "--config.data.eval_split="]
    more = [*whole, "--config.model.num_classes=7", "--config.steps=1"]
    assert train.main([*pets, *more, f"--workdir={tmp_path}/run"]) == 0
    said = capsys.readouterr().out
    assert "the data has 2 classes and the network 7: if these are" in said
    assert said.count("train top-1") == 2  # of the evaluation, and at the end
    assert json.loads((tmp_path / "run/config.json").read_text())["model"]["num_classes"] == 7
