"""A run directory as weights: the newest checkpoint, what it is evaluated with, and on what."""

import shutil
from contextlib import closing

import jax
import numpy as np
import pytest

from vgg_jax.errors import UserError
from vgg_jax.runs.directory import CHECKPOINTS, open_workdir
from vgg_jax.training.checkpoints import Checkpoints
from vgg_jax.training.export_run import load_run
from vgg_jax.training.setup import from_config


@pytest.fixture
def stored(small_run, tmp_path):
    """Returns a function that stores a run: its config, and its first state as of two steps."""

    def store(*overrides: str, steps=(3, 5), **options):
        config = small_run(*overrides, **options)
        folder = tmp_path / "run"
        open_workdir(folder, config).close()
        state = jax.jit(from_config(config).init_fn)()
        if state.ema is not None:
            state = state.replace(ema=jax.tree.map(lambda x: 2 * x, state.ema))
        with closing(Checkpoints(folder / CHECKPOINTS, 2)) as checkpoints:
            for step in steps:
                counted = jax.tree.map(lambda x, step=step: x + step, state.params)
                state = state.replace(step=np.int32(step), params=counted)
                checkpoints.save(state, {})
            checkpoints.wait()
        return folder, state

    return store


def test_the_newest_checkpoint_with_its_data(stored):
    folder, state = stored("--config.model.num_classes=12")
    weights, source, name = load_run(folder)
    jax.tree.map(np.testing.assert_array_equal, weights.variables, state.eval_variables())
    assert weights.origin == {"layout": "run", "file": "run", "step": 5}
    assert weights.class_names == (*"0123456789", "10", "11")  # two have no example
    assert (len(source), name) == (359, "digits test")
    preprocessing = weights.preprocessing
    assert (preprocessing.resize, preprocessing.crop) == (8, 8)
    assert (preprocessing.mean, preprocessing.std) == ((78.0,) * 3, (96.0,) * 3)
    # Without the newest one it is the one before.
    shutil.rmtree(folder / CHECKPOINTS / "5")
    assert load_run(folder)[0].origin["step"] == 3


def test_a_run_that_keeps_an_average_is_evaluated_with_it(stored):
    folder, state = stored("--config.optimizer.ema=0.9", steps=(1,))
    weights, _, _ = load_run(folder)
    jax.tree.map(np.testing.assert_array_equal, weights.variables["params"], state.ema)
    kernels = [tree["fc8"]["kernel"] for tree in (weights.variables["params"], state.params)]
    assert not np.any(np.asarray(kernels[0]) == np.asarray(kernels[1]))


def test_what_is_no_run_or_has_no_checkpoint_is_said(stored, tmp_path):
    with pytest.raises(UserError, match=r"no run in .*: give the --workdir of vgg_jax.train"):
        load_run(tmp_path)
    folder, _ = stored(steps=())
    with pytest.raises(UserError, match=r"no checkpoints in .*/run: train it first"):
        load_run(folder)
    shutil.rmtree(folder / CHECKPOINTS)
    with pytest.raises(UserError, match="no checkpoints"):
        load_run(folder)
    assert not (folder / CHECKPOINTS).exists()
