"""A run's parts are those that its config says; what cannot be divided is refused."""

import copy

import jax
import numpy as np
import pytest

from vgg_jax.data.sources import fingerprint, open_source
from vgg_jax.errors import UserError
from vgg_jax.training.setup import build, first_state, from_config
from vgg_jax.training.steps import augmented


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["--config.epochs=2.0"], 360),  # 1438 examples, 8 a step: 179.75 an epoch
        (["--config.epochs=0.5"], 90),
        (["--config.epochs=2.0", "--config.steps=7"], 7),
    ],
)
def test_steps_follow_from_epochs_unless_they_are_given(small_run, overrides, steps):
    assert build(small_run(*overrides)).total_steps == steps


def test_epochs_that_make_no_step_are_refused(small_run):
    with pytest.raises(UserError, match=r"epochs=0\.002 of 1,438 images is less than half a step"):
        build(small_run("--config.epochs=0.002", "--config.optimizer.warmup_epochs=0.0"))


def test_data_and_schedule_are_the_config_s(small_run):
    config = small_run("--config.optimizer.warmup_epochs=1.0", "--config.steps=1000")
    run = build(config)
    for split, examples in (("train", 1438), ("test", 359)):
        assert run.fingerprints[split] == fingerprint(open_source(config.data, split))
        assert {"train": run.train_data, "test": run.eval_data}[split].num_examples == examples
    rate = config.optimizer.learning_rate
    rates = [float(run.schedule(step)) for step in (0, 89, 200)]
    assert rates == pytest.approx([rate / 180, rate / 2, rate], rel=1e-4)
    assert run.parallel.devices == len(jax.devices())


def test_parts_need_no_data_and_the_first_state_is_theirs(small_run):
    config = small_run("--config.optimizer.ema=0.9")
    run = build(config)
    with config.unlocked():
        config.data.source, config.data.dir = "folder", "/nowhere"
    parts = from_config(config)
    assert parts.model == run.model
    state, same = first_state(run, config), jax.jit(parts.init_fn)()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state, same)
    assert int(state.step) == 0
    assert state.ema is not None


@pytest.mark.parametrize(
    ("frozen", "layers"),
    [
        ("('bn1_1/.*',)", ("bn1_1",)),
        ("('bn1_1/scale',)", ()),
        ("('conv.*','bn.*')", ("bn1_1", "bn2_1")),
        ("()", ()),
    ],
)
def test_a_normalisation_that_is_frozen_whole_uses_its_statistics(small_run, frozen, layers):
    model, _, _ = from_config(small_run(f"--config.optimizer.frozen={frozen}"))
    assert sorted(model.norm_frozen) == sorted(layers)


def test_lsuv_looks_at_the_images_of_the_first_step(small_run):
    config = small_run(
        "--config.model.kernel_init=lsuv",
        "--config.data.batch_size=64",
        "--config.optimizer.ema=0.9",
        spec="configs/vgg11.py:digits",
    )
    run = build(config)
    state = first_state(run, config)
    batch = run.parallel.put(run.train_data.batch(0))
    images = augmented(run.augment, config.seed, 0, batch)["image"]
    _, endpoints = jax.jit(run.model.apply)({"params": state.params}, images)
    for layer in run.model.layer_names:
        assert float(endpoints[layer].var()) == pytest.approx(1, abs=0.02)
    jax.tree.map(np.testing.assert_array_equal, state.ema, state.params)
    pointers = {leaf.unsafe_buffer_pointer() for leaf in shards(state.ema)}
    assert pointers.isdisjoint(leaf.unsafe_buffer_pointer() for leaf in shards(state.params))


def shards(tree):
    """The first device's part of every array."""
    return [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.batch_size=6"], "data.batch_size=6 cannot be divided among 4 devices .*use 4 or 8"),
        (["data.batch_size=2"], "data.batch_size=2 .*use 4$"),
        (["eval.batch_size=10"], "eval.batch_size=10 .*use 8 or 12"),
        (["optimizer.accumulate=2"], r"exclude each other: .*model.norm_group, e.g. 1"),
        (
            ["optimizer.accumulate=2", "model.norm_group=2"],
            r"micro-batches and norm groups \(16 parts\); use 16",
        ),
        (["parallel.model=4"], r"divides none of .*widths, \[10\]; set parallel.model=1"),
        (["model.num_classes=8"], "labels run from 0 to 9.*num_classes=10"),
        (["data.train_split=none"], "no split 'none'"),
        (["optimizer.frozen=('conv9.*',)"], "'conv9.*', which matches no parameter"),
    ],
)
def test_what_cannot_be_honoured_is_refused(small_run, overrides, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        build(small_run(*(f"--config.{override}" for override in overrides)))


def test_the_number_of_classes_is_that_of_all_splits_unless_given(small_run, tmp_path):
    images = np.zeros((8, 32, 32, 3), np.uint8)
    labels = {"y_train": np.arange(8) % 3, "y_test": np.arange(8) % 5}
    np.savez(tmp_path / "some.npz", x_train=images, x_test=images, **labels)
    data = ["--config.data.source=npz", f"--config.data.dir={tmp_path}/some.npz"]
    given = small_run(*data)
    open_ = copy.deepcopy(given)
    open_.model.num_classes = None
    run = build(open_)
    assert open_.model.num_classes is None
    assert run.config.model.num_classes == run.model.num_classes == run.data_classes == 5
    assert build(given).model.num_classes == given.model.num_classes == 10
