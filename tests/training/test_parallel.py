"""The same training in every layout of devices, by jit or pmap."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.training.conftest import CLASSES, SIZE
from tests.training.layouts import FAMILIES
from vgg_jax.errors import UserError
from vgg_jax.training.optimizers import make_optimizer, make_schedule
from vgg_jax.training.parallel import make_parallel
from vgg_jax.training.state import init_variables, new_state


@pytest.fixture(scope="session")
def layouts(tmp_path_factory, pytestconfig):
    """Returns {family: {layout: {name: array}}} as `layouts.py` writes it."""
    path = tmp_path_factory.mktemp("layouts") / "layouts.npz"
    subprocess.run(
        [sys.executable, "-m", "tests.training.layouts", str(path)],
        cwd=pytestconfig.rootpath,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8"},
        check=True,
    )
    results = {}
    with np.load(path) as arrays:
        for key in arrays:
            family, layout, name = key.split("|")
            results.setdefault(family, {}).setdefault(layout, {})[name] = arrays[key]
    return results


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_ends_with_the_same_parameters(layouts, family):
    expected = layouts[family]["one device"]
    assert layouts[family].keys() == FAMILIES[family].keys()
    for layout, arrays in layouts[family].items():
        assert arrays.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(
                arrays[name], expected[name], rtol=0, atol=1e-5, err_msg=f"{layout}: {name}"
            )


def test_what_is_compared_depends_on_the_options(layouts):
    """Dropout masks and norm groups change the result: the agreement above is not an empty one."""
    kernels = [layouts[family]["one device"]["params/fc6/kernel"] for family in FAMILIES]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(kernels[one] - kernels[other]).max() > 1e-4


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


def test_optimizer_state_is_spread_over_data(tiny_vgg, optimizer_config):
    model = tiny_vgg(head="cifar", head_features=(8, 8))
    optimizer = make_optimizer(optimizer_config, make_schedule(optimizer_config, 10.0, 100))

    def init():
        return new_state(init_variables(model, 0, SIZE), optimizer, with_ema=False)

    abstract = make_parallel("jit", 2, shard_optimizer=True).abstract(init)
    for name, parts in (("conv1_2", 2), ("fc6", 4)):  # fc6 is split over "model" as well
        kernel = abstract.params[name]["kernel"]
        momentum = abstract.opt_state[1].trace[name]["kernel"]
        assert momentum.shape == kernel.shape
        assert np.prod(momentum.sharding.shard_shape(kernel.shape)) == kernel.size // parts
    assert abstract.params["conv1_2"]["kernel"].sharding.is_fully_replicated


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "map"}, "pmap"),
        ({"mode": "jit", "model": 3}, "does not divide 4 devices"),
        ({"mode": "pmap", "model": 2}, "cannot split"),
        ({"mode": "pmap", "shard_optimizer": True}, "parallel.shard_optimizer=false"),
    ],
    ids=lambda value: "",
)
def test_what_cannot_be_honoured_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        make_parallel(**options)
