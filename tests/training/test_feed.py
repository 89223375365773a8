"""Several steps a dispatch give what the same steps give one by one."""

import itertools
import json

import pytest

from vgg_jax.config import load_config
from vgg_jax.errors import UserError
from vgg_jax.training.feed import dispatch_ranges
from vgg_jax.training.loop import train
from vgg_jax.training.setup import build

TINY = [
    "--config.model.stages=('3-4','3-4','3-8')",
    "--config.model.head=linear",
    "--config.data.batch_size=16",
    "--config.data.augment=pad_crop",
    "--config.data.flip=true",
    # Adam would blow the rounding of gradients that are nearly zero up to whole steps.
    "--config.optimizer.name=sgd",
    "--config.optimizer.learning_rate=0.1",
    "--config.steps=6",
    "--config.eval.every_steps=3",
    "--config.checkpoint.every_steps=100",
    "--config.log.every_steps=1",
]


@pytest.fixture(autouse=True)
def _in_project_root(pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_training_is_that_of_single_steps(tmp_path):
    lines = {}
    for size in (1, 5):
        workdir = tmp_path / str(size)
        options = [*TINY, f"--config.parallel.steps_per_dispatch={size}"]
        summary = train(load_config("configs/vgg11.py:digits", options), workdir, 0.0)
        assert summary["steps"] == 6
        text = (workdir / "metrics.jsonl").read_text()
        lines[size] = [json.loads(line) for line in text.splitlines()]
    # Every step has its line, and five steps a dispatch stop for the evaluation after the third.
    assert [line["step"] for line in lines[5]] == [1, 2, 3, 3, 4, 5, 6, 6]
    for one, five in zip(lines[1], lines[5], strict=True):
        one.pop("train/images_per_second", None)
        five.pop("train/images_per_second", None)
        assert one == pytest.approx(five, rel=1e-4)


@pytest.mark.parametrize(
    ("start", "stop", "size", "pauses"), [(0, 20, 4, (5, 0)), (3, 11, 100, (4, 6)), (5, 5, 2, ())]
)
def test_ranges_cover_all_steps_and_never_cross_a_pause(start, stop, size, pauses):
    ranges = list(dispatch_ranges(start, stop, size, pauses))
    assert list(itertools.chain(*ranges)) == list(range(start, stop))
    for steps in ranges:
        assert len(steps) <= size
        for every in filter(None, pauses):
            assert all(step % every for step in steps[1:])


@pytest.mark.parametrize(
    "override", ["--config.parallel.mode=pmap", "--config.data.augment=scale_crop"]
)
def test_what_cannot_be_resident_is_said(override):
    options = [*TINY, "--config.parallel.steps_per_dispatch=4", override]
    options += ["--config.data.scale=(32,32)", "--config.data.eval_resize=32"]
    with pytest.raises(UserError, match="steps_per_dispatch"):
        build(load_config("configs/vgg11.py:digits", options))
