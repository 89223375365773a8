"""The state before the first step: a function of the seed, and of arrays that share no buffer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training.conftest import SIZE
from vgg_jax.training.state import init_variables, new_state

OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def drawn(model, seed=0):
    return jax.jit(lambda: init_variables(model, seed, SIZE))()


def test_variables_are_a_function_of_the_seed(tiny_vgg):
    one, same, other = (drawn(tiny_vgg(), seed) for seed in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    kernels = [x["params"]["conv1_1"]["kernel"] for x in (one, other)]
    assert not np.any(kernels[0] == kernels[1])
    # Another layer draws its own numbers, and the head's size does not change the convolutions'.
    assert not np.any(kernels[0] == one["params"]["conv1_2"]["kernel"][:, :, :3])
    wide = drawn(tiny_vgg(num_classes=7), 3)
    np.testing.assert_array_equal(wide["params"]["conv1_1"]["kernel"], kernels[0])


@pytest.mark.parametrize(("norm", "layers"), [("none", 0), ("batch", 3)])
def test_statistics_are_those_of_the_normalisations(tiny_vgg, norm, layers):
    statistics = jax.eval_shape(lambda: init_variables(tiny_vgg(norm=norm), 0, SIZE))["batch_stats"]
    assert len(statistics) == layers


@pytest.mark.parametrize("with_ema", [True, False])
def test_a_new_state_has_made_no_step_and_can_be_donated_whole(tiny_vgg, with_ema):
    variables = drawn(tiny_vgg(norm="batch"))
    state = new_state(variables, OPTIMIZER, with_ema=with_ema)
    assert (int(state.step), bool(state.healthy)) == (0, True)
    assert state.step.dtype == jnp.int32
    assert state.params is variables["params"]
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(pointers)) == len(pointers)
    moved = jax.jit(lambda s: s.replace(step=s.step + 1), donate_argnums=0)(state)
    assert int(moved.step) == 1


def test_evaluation_uses_the_average_if_there_is_one(tiny_vgg):
    variables = drawn(tiny_vgg(norm="batch"))
    plain = new_state(variables, OPTIMIZER, with_ema=False)
    assert plain.ema is None
    assert plain.eval_variables() == {
        "params": plain.params,
        "batch_stats": variables["batch_stats"],
    }
    averaged = new_state(variables, OPTIMIZER, with_ema=True)
    jax.tree.map(np.testing.assert_array_equal, averaged.ema, averaged.params)
    doubled = averaged.replace(ema=jax.tree.map(lambda x: 2 * x, averaged.ema))
    assert doubled.eval_variables()["params"] is doubled.ema
