"""`track_gradients`: norms of what passes through the link, which it leaves as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from vgg_jax.probes.tracking import track_gradients

PARAMS = {"a": {"kernel": jnp.ones((2, 3))}, "b": {"bias": jnp.zeros(4)}}
GRADS = {"a": {"kernel": jnp.full((2, 3), 2.0)}, "b": {"bias": jnp.array([3.0, 4, 0, 0])}}


def test_norms_are_those_of_the_gradients_and_the_updates_those_of_the_chain_without():
    tracked = optax.chain(track_gradients(), optax.clip_by_global_norm(1.0), optax.adam(0.1))
    plain = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
    state = tracked.init(PARAMS)
    assert optax.tree.get(state, "gradient_norms") == {"a/kernel": 0, "b/bias": 0}
    updates, state = jax.jit(tracked.update)(GRADS, state, PARAMS)
    norms = optax.tree.get(state, "gradient_norms")
    assert float(norms["a/kernel"]) == pytest.approx(24**0.5)
    assert float(norms["b/bias"]) == pytest.approx(5)
    expected, _ = jax.jit(plain.update)(GRADS, plain.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_last_in_the_chain_it_sees_the_updates():
    optimizer = optax.chain(optax.sgd(0.5), track_gradients())
    _, state = optimizer.update(GRADS, optimizer.init(PARAMS), PARAMS)
    assert float(optax.tree.get(state, "gradient_norms")["b/bias"]) == pytest.approx(2.5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_gradients_whose_squares_float32_does_not_hold(scale):
    tracker = track_gradients()
    _, state = tracker.update({"a": jnp.array([3.0, 4.0]) * scale}, tracker.init(PARAMS))
    assert float(state.gradient_norms["a"]) == pytest.approx(5 * scale, rel=1e-6)


def test_in_the_optimiser_of_nnx():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    chain = optax.chain(track_gradients(), optax.sgd(0.1))
    optimizer = nnx.Optimizer(model, chain, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, x):
        grads = nnx.grad(lambda model: jnp.sum(model(x)))(model)
        optimizer.update(model, grads)

    step(model, optimizer, jnp.ones((5, 3)))
    norms = optax.tree.get(optimizer.opt_state, "gradient_norms")
    assert float(norms["kernel"][...]) == pytest.approx(np.linalg.norm(np.full((3, 2), 5.0)))
    assert float(norms["bias"][...]) == pytest.approx(50**0.5)
