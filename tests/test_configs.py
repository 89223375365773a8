"""Every config and every word after the colon builds and lowers, and steps at a small size."""

import math

import cv2
import jax
import numpy as np
import pytest

from configs import base
from vgg_jax.config import load_config
from vgg_jax.models import build_model
from vgg_jax.training.setup import build, first_state

SPECS = [f"configs/vgg{n}.py" for n in (11, 13, 16, 19)] + [
    f"configs/vgg11.py:{words}"
    for words in (
        *("digits", "cifar10", "cifar100,modern", "imagenette", "imagenet,bn", "modern"),
        "caltech101",
    )
]
DEEPER = SPECS[1:4]  # the files differ in one letter, and deep nets compile for long


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes, of the sizes and in the format of real photos."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 256, (45 + i, 60, 3), dtype=np.uint8)
                cv2.imwrite(str(root / split / name / f"{i}.jpg"), pixels)
    return root


def test_every_word_is_tried():
    words = {word for spec in SPECS for word in spec.partition(":")[2].split(",") if word}
    assert words == {*base.DATASETS, *base.RECIPES}


@pytest.mark.parametrize("spec", SPECS)
def test_config_builds_lowers_and_steps(spec, photos, pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)
    overrides = ["--config.data.batch_size=8", "--config.eval.batch_size=8"]
    overrides += ["--config.model.width=0.03125", "--config.data.workers=0"]
    if ":" in spec:  # words change everything but the stages
        side = 8
        overrides += ["--config.model.stages=('3-64','3-512')"]
    else:
        side = 32
    overrides += [f"--config.data.image_size={side}", f"--config.data.eval_resize={side + 4}"]
    if "digits" not in spec:
        overrides += ["--config.data.source=folder", f"--config.data.dir={photos}"]
        overrides += ["--config.data.train_split=train", "--config.data.eval_split=test"]
        # Photos of several sizes are cropped on the host.
        overrides += [
            "--config.data.augment=scale_crop",
            f"--config.data.scale=({side + 4},{side + 8})",
        ]
    config = load_config(spec, overrides)
    run = build(config)
    _, inputs = next(run.feed(0, 1))
    if spec in DEEPER:
        run.advance.lower(run.parallel.abstract(run.init_fn), inputs)
        return
    state = first_state(run, config)
    before = jax.device_get(state.params)
    lowered = run.advance.lower(state, inputs)
    state, metrics = lowered.compile()(state, inputs)
    assert math.isfinite(metrics["loss"])
    assert metrics["gradient_norm"] > 0
    after = jax.device_get(state.params)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
    assert moved["fc8"]["bias"] or moved["fc8"]["kernel"]
    sums = run.eval_step(state, run.parallel.put(next(iter(run.eval_data))))
    assert int(sums["examples"]) == 8


@pytest.mark.parametrize(
    ("words", "width"),
    [("cifar10", 1), ("cifar100,modern", 1), ("digits", 1), ("imagenette", 0.25), ("modern", 0.25)],
)
def test_the_loss_starts_near_that_of_guessing(words, width, pytestconfig, monkeypatch):
    """Drawn by fan-out, a classifier of ten classes starts at three times it and more."""
    monkeypatch.chdir(pytestconfig.rootpath)
    overrides = ["--config.model.stages=('3-64','3-512')", "--config.model.norm=batch"]
    overrides += [f"--config.model.width={width}"]
    config = load_config(f"configs/vgg16.py:{words}", [*overrides, "--config.model.dropout=0.0"])
    model = build_model(config.model, image_size=4)
    images = jax.random.normal(jax.random.key(0), (64, 4, 4, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    (logits, _), _ = jax.jit(model.apply, static_argnames=("train", "mutable"))(
        variables, images, train=True, mutable="batch_stats"
    )
    loss = -jax.nn.log_softmax(logits).mean()
    assert abs(loss - math.log(model.num_classes)) < 1
