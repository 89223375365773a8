"""`fit`: the command line's run on arrays, to the bit; what it derives, and what it refuses."""

import numpy as np
import pytest

import vgg_jax
from vgg_jax import fit
from vgg_jax.config import flatten, load_config, override_arguments
from vgg_jax.data.arrays import open_digits
from vgg_jax.errors import UserError
from vgg_jax.runs.reader import StoredRun
from vgg_jax.training import fitting
from vgg_jax.training.export_run import load_run
from vgg_jax.training.loop import train

TINY = {"model.stages": ("3-4", "3-8"), "model.head": "linear", "data.batch_size": 32}
SHORT = TINY | {"steps": 6, "log.every_steps": 2}


@pytest.fixture(scope="module")
def digits():
    """Training and test split as (images, labels)."""
    return [(source.images, source.labels) for source in map(open_digits, ("train", "test"))]


def images_of(side, count=40, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return rng.integers(0, 256, (count, side, side, 3), np.uint8), labels


def test_it_is_the_run_of_the_command_line_to_the_bit(digits, tmp_path):
    changes = SHORT | {"eval.every_steps": 3, "checkpoint.every_steps": 3, "seed": 5}
    config = load_config("vgg16:digits", override_arguments(changes))
    train(config, tmp_path / "command", 0.0)
    expected, _, _ = load_run(tmp_path / "command")

    history, model = fit("vgg16:digits", data=digits[0], validation=digits[1], **changes)
    for metric in ("train/loss", "train/gradient_norm", "eval/top1", "eval/loss"):
        curve = history.curve(metric)
        assert curve == StoredRun(tmp_path / "command").curve(metric)
        assert len(curve) in (2, 3)
    for name, leaf in expected.variables["params"].items():
        for key, value in leaf.items():
            np.testing.assert_array_equal(value, model.variables["params"][name][key])
    assert model.preprocessing == expected.preprocessing
    assert model.model == expected.model


def test_it_leaves_no_files_and_tells_what_there_was(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    history, model = fit("vgg11_bn", data=digits[0], class_names="zyxwvutsrq", **SHORT)
    assert not list(tmp_path.iterdir())
    assert history.summary["exit_reason"] == "finished"
    assert 0 < history.summary["seconds_to_first_step"] < history.summary["wall_seconds"]
    assert [step for step, _ in history.curve("train/loss")] == [2, 4, 6]
    # Without validation data the training images are scored, once, and it says so.
    assert history.summary["protocol"]["split"] == "train"
    assert [step for step, _ in history.curve("eval/top1")] == [6]
    assert history.lines[-1]["eval/examples"] == len(digits[0][0])
    vgg_jax.save_weights(tmp_path / "net.safetensors", model)
    loaded = vgg_jax.load_weights(tmp_path / "net.safetensors")
    assert (loaded.model, loaded.class_names) == (model.model, tuple("zyxwvutsrq"))


def test_a_run_directory_is_kept_and_the_same_call_returns_it(digits, tmp_path):
    changes = SHORT | {"workdir": tmp_path / "run", "probe.every_steps": 3}
    history, model = fit("vgg11", data=digits[0], validation=digits[1], **changes)
    assert (tmp_path / "run" / "probes" / "layers.csv").is_file()
    before = (tmp_path / "run" / "summary.json").read_bytes()
    again, same = fit("vgg11", data=digits[0], validation=digits[1], **changes)
    assert again.lines == history.lines
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    np.testing.assert_array_equal(
        model.variables["params"]["fc8"]["kernel"], same.variables["params"]["fc8"]["kernel"]
    )
    with pytest.raises(UserError, match=r"arrays of a Python program: call vgg_jax\.fit"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "side", "variant", "norm", "size"),
    [
        ("vgg16_bn", 32, "D", "batch", 32),
        ("D", 8, "D", "none", 32),
        ("plain-22", 70, "plain-22", "none", 64),
    ],
)
def test_a_bare_name_takes_sizes_and_normalisation_from_the_images(
    name, side, variant, norm, size, monkeypatch
):
    configs = []

    class Reached(Exception):
        pass

    def train(config, *_, **__):
        configs.append(flatten(config))
        raise Reached

    monkeypatch.setattr(fitting, "train", train)
    x, y = images_of(side)
    with pytest.raises(Reached):
        fit(name, data=(x, y), width=0.05)
    (config,) = configs
    assert (config["model.variant"], config["model.norm"]) == (variant, norm)
    assert (config["data.image_size"], config["model.num_classes"]) == (size, 3)
    np.testing.assert_allclose(config["data.mean"], x.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(config["data.std"], x.std((0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize(("changes", "expected"), [({}, 3), ({"num_classes": 7}, 7)])
def test_a_config_may_leave_the_number_of_classes_and_steps_open(monkeypatch, changes, expected):
    given = []

    def train(config, *_, **__):
        given.append(flatten(config))
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "train", train)
    with pytest.raises(KeyboardInterrupt):
        fit(load_config("vgg11"), data=images_of(32), steps=2, **changes)
    assert (given[0]["model.num_classes"], given[0]["steps"]) == (expected, 2)


def test_keys_that_are_given_are_kept_and_a_config_too(digits):
    config = load_config("vgg11:cifar10", override_arguments(SHORT))
    before = flatten(config)
    numpy = {
        "num_classes": np.int64(12),
        "mean": np.float32([1, 2, 3]),
        "std": (np.ones(1)[0],) * 3,
    }
    history, model = fit(config, data=digits[0], validation=digits[1], seed=3, **numpy)
    assert flatten(config) == before
    assert (history.config["data.mean"], history.config["data.std"]) == (
        (1.0, 2.0, 3.0),
        (1.0,) * 3,
    )
    changed = {key for key in before if history.config[key] != before[key]}
    assert changed == {
        *("seed", "model.num_classes", "data.source", "data.name", "data.eval_split"),
        *("data.mean", "data.std"),
        *("data.workers", "eval.every_steps", "checkpoint.every_steps"),
    }
    assert model.class_names[-2:] == ("10", "11")
    assert history.config["eval.every_steps"] == 45  # an epoch


def test_fine_tuning_from_a_file(tmp_path):
    _, model = fit("vgg11", data=images_of(32, classes=4), **SHORT)
    vgg_jax.save_weights(tmp_path / "net.safetensors", model)
    start = f"finetune:{tmp_path}/net.safetensors"
    _, tuned = fit(start, data=images_of(32, classes=2), steps=2, data_batch_size=8)
    assert tuned.model.num_classes == 2
    kept = [net.variables["params"]["conv1_1"]["kernel"] for net in (model, tuned)]
    np.testing.assert_array_equal(*kept)  # frozen


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("vgg61", {}, r"unknown config 'vgg61'. Did you mean"),
        ("vgg16:digit", {}, r"Did you mean 'digits'"),
        ("vgg16", {"batch_size": 8}, r"batch_size may be data_batch_size or eval_batch_size"),
        ("vgg16", {"lerning_rate": 8}, r"Did you mean 'optimizer_learning_rate'"),
        ("vgg16", {"learning_rate": "fast"}, r"of type float"),
        ("vgg16", {"num_classes": 2}, r"labels run from 0 to 2"),
        ("vgg16", {"probe_every_steps": 2}, r"give workdir=DIR"),
        ("vgg16", {"trackers": ("mlflow",)}, r"trackers keep their ids .* give workdir=DIR"),
        ("vgg16", {"data": (np.zeros((4, 8, 8, 3)), [0, 1, 0, 1])}, r"Floats of 0\.\.1 become so"),
        ("vgg16", {"data": np.zeros((4, 8, 8, 3))}, r"data takes two arrays"),
        ("vgg16", {"validation": images_of(8)[:1]}, r"validation takes two arrays"),
        ("vgg16", {"data": (images_of(8)[0], [0, 1])}, r"data\[0\] is uint8 .* data\[1\] int"),
    ],
)
def test_mistakes_get_a_line_that_helps(name, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        fit(name, **{"data": images_of(8)} | arguments)
    assert len(str(error.value).splitlines()) <= 2
