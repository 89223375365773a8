"""The same training on any number of devices, by jit or pmap."""

import jax
import numpy as np
import pytest

from tests.training.conftest import CLASSES, SIZE
from vgg_jax.errors import UserError
from vgg_jax.training.optimizers import make_optimizer, make_schedule
from vgg_jax.training.parallel import PMAP_AXIS, make_parallel
from vgg_jax.training.state import init_variables, new_state
from vgg_jax.training.steps import make_eval_step, make_train_step

BATCH = 16


@pytest.fixture
def trained(tiny_vgg, augment, batch_of, optimizer_config):
    """Returns the state after three steps, and the scores of a batch by it."""

    def run(mode: str, devices: int, model_devices: int = 1, **fields):
        model = tiny_vgg(head="cifar", head_features=(8, 8), dropout=0.0, **fields)
        optimizer = make_optimizer(optimizer_config, make_schedule(optimizer_config, 10.0, 100))
        parallel = make_parallel(mode, model_devices, jax.devices()[:devices])
        axis_name = PMAP_AXIS if mode == "pmap" else None
        mapped = model.clone(norm_axis_name=axis_name)
        train_step, eval_step = parallel.compile_steps(
            make_train_step(mapped, optimizer, augment, seed=1, axis_name=axis_name),
            make_eval_step(mapped, lambda x: x / 64.0, axis_name=axis_name),
        )
        state = parallel.init(
            lambda: new_state(init_variables(model, 0, SIZE), optimizer, with_ema=False)
        )
        for step in range(3):
            state, metrics = train_step(state, parallel.put(batch_of(BATCH, seed=step)))
        sums = eval_step(state, parallel.put(batch_of(BATCH, seed=9)))
        # There and back, as through a checkpoint.
        state = parallel.storable(parallel.place(parallel.storable(state)))
        return jax.device_get((state.params, state.batch_stats, metrics, sums))

    return run


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_every_layout_gives_the_same_parameters_statistics_and_scores(trained, norm):
    expected = trained("jit", 1, norm=norm)
    for mode, devices, model_devices in (("jit", 4, 1), ("jit", 4, 2), ("pmap", 4, 1)):
        got = trained(mode, devices, model_devices, norm=norm)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-5), expected, got
        )


def test_group_statistics_do_not_depend_on_the_devices(trained):
    expected = trained("jit", 1, norm="batch", norm_group=4)
    for mode in ("jit", "pmap"):
        got = trained(mode, 4, norm="batch", norm_group=4)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-5), expected, got
        )


def test_fully_connected_layers_are_split_over_model(tiny_vgg, optimizer_config):
    model = tiny_vgg(head="cifar", head_features=(8, 8))
    optimizer = make_optimizer(optimizer_config, make_schedule(optimizer_config, 10.0, 100))
    state = make_parallel("jit", 2).init(
        lambda: new_state(init_variables(model, 0, SIZE), optimizer, with_ema=False)
    )
    kernel = state.params["fc6"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape)[-1] == 4
    momentum = [x for x in jax.tree.leaves(state.opt_state) if x.shape == kernel.shape]
    assert momentum
    assert all(x.sharding.shard_shape(x.shape)[-1] == 4 for x in momentum)
    assert state.params["conv1_1"]["kernel"].sharding.is_fully_replicated
    assert CLASSES % 2 == 0  # so that fc8 is split as well


@pytest.mark.parametrize(
    ("mode", "model", "message"),
    [("map", 1, "pmap"), ("jit", 3, "does not divide 4 devices"), ("pmap", 2, "cannot split")],
)
def test_what_cannot_be_honoured_is_refused(mode, model, message):
    with pytest.raises(UserError, match=message):
        make_parallel(mode, model)
