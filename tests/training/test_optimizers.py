"""Optimisers against their textbook recurrences, schedules, and the plateau rule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs.base import base
from vgg_jax.errors import UserError
from vgg_jax.training.optimizers import (
    Plateau,
    make_optimizer,
    make_schedule,
    set_rate_factor,
)
from vgg_jax.training.param_filters import select

PARAMS = {
    "conv1_1": {"kernel": np.float32([1.0, -2.0, 3.0]), "bias": np.float32([0.5])},
    "bn1_1": {"scale": np.float32([1.0]), "bias": np.float32([0.0])},
}
GRADS = [
    jax.tree.map(lambda p, k=k: np.float32(0.1 * (k + 1) + 0.05 * p**2), PARAMS) for k in range(4)
]


def config(**changes) -> ConfigDict:
    optimizer = base().optimizer
    optimizer.schedule = "constant"
    for name, value in changes.items():
        optimizer[name] = value
    return optimizer


def run(optimizer_config: ConfigDict) -> dict:
    schedule = make_schedule(optimizer_config, 10.0, 100)
    optimizer = make_optimizer(optimizer_config, schedule)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for grads in GRADS:
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_is_the_textbook_recurrence(nesterov, decay):
    rate, momentum = 0.02, 0.9
    got = run(config(learning_rate=rate, nesterov=nesterov, weight_decay=decay))
    for layer, leaves in PARAMS.items():
        for name, value in leaves.items():
            # L2 decay joins the gradient before the momentum, and only on kernels.
            w, v = value.copy(), np.zeros_like(value)
            for grads in GRADS:
                g = grads[layer][name] + (decay * w if name == "kernel" else 0.0)
                v = momentum * v + g
                w = w - rate * (g + momentum * v if nesterov else v)
            np.testing.assert_allclose(got[layer][name], w, rtol=1e-5)


def test_adamw_is_optax_adamw():
    got = run(config(name="adamw", learning_rate=0.01, weight_decay=0.1))
    optimizer = optax.adamw(
        0.01, b1=0.9, weight_decay=0.1, mask=lambda p: select(p, (".*/kernel",), "decay_on")
    )
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for grads in GRADS:
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, params)


def test_clipping_bounds_the_global_norm():
    moved = run(config(clip_norm=0.01, momentum=0.0, weight_decay=0.0, learning_rate=1.0))
    step = jax.tree.map(lambda a, b: a - b, moved, PARAMS)
    # Each of the steps has norm 0.01, and all gradients point the same way to within a little.
    np.testing.assert_allclose(optax.tree.norm(step), 0.01 * len(GRADS), rtol=0.02)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant"}, {0: 1.0, 99: 1.0}),
        ({"schedule": "plateau"}, {0: 1.0, 99: 1.0}),
        (
            {"schedule": "step", "decay_epochs": (3.0, 6.0)},
            {29: 1.0, 30: 0.1, 59: 0.1, 60: 0.01},
        ),
        (
            {"schedule": "step", "decay_epochs": (3.0,), "warmup_epochs": 1.0},
            {0: 0.1, 4: 0.5, 9: 1.0, 29: 1.0, 30: 0.1},
        ),
        ({"schedule": "cosine"}, {0: 1.0, 50: 0.5, 100: 0.0}),
        ({"schedule": "cosine", "warmup_epochs": 2.0}, {0: 0.05, 19: 1.0, 20: 1.0, 60: 0.5}),
        ({"schedule": "constant", "warmup_epochs": 0.1}, {0: 1.0, 1: 1.0}),
    ],
)
def test_schedules(changes, expected):
    schedule = make_schedule(config(learning_rate=1.0, **changes), 10.0, 100)
    got = {step: float(schedule(step)) for step in expected}
    assert got == pytest.approx(expected, abs=1e-6)


def test_plateau_divides_by_ten_at_most_three_times():
    plateau = Plateau(decay=0.1, patience=2, max_drops=3)
    factors = []
    for error in [0.5, 0.4, 0.41, 0.3, 0.3, 0.31, 0.32, 0.33, 0.2] + [0.2] * 10:
        plateau.observe(error)
        factors.append(round(plateau.factor, 6))
    assert factors == [1, 1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01] + [0.001] * 9
    assert plateau.best == 0.2


def test_rate_factor_scales_the_update_exactly():
    optimizer = make_optimizer(config(), optax.constant_schedule(0.1))
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    full, _ = optimizer.update(GRADS[0], state, params)
    reduced, _ = optimizer.update(GRADS[0], set_rate_factor(state, 0.5), params)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(0.5 * a, b), full, reduced)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_rates_scale_steps_and_frozen_parameters_have_no_part(name):
    settings = {"name": name, "learning_rate": 0.01, "weight_decay": 0.1}
    plain = run(config(**settings))
    rates = (("conv1_1/kernel", 10.0), ("conv.*", 0.0))
    got = run(config(**settings, rates=rates, frozen=("bn.*",)))
    np.testing.assert_array_equal(got["conv1_1"]["bias"], PARAMS["conv1_1"]["bias"])
    jax.tree.map(np.testing.assert_array_equal, got["bn1_1"], PARAMS["bn1_1"])
    faster = run(config(**settings | {"learning_rate": 0.1}))
    np.testing.assert_allclose(got["conv1_1"]["kernel"], faster["conv1_1"]["kernel"], rtol=1e-5)
    assert np.all(plain["bn1_1"]["scale"] != PARAMS["bn1_1"]["scale"])

    optimizer = make_optimizer(config(**settings, frozen=("bn.*",)), optax.constant_schedule(0.1))
    state = set_rate_factor(optimizer.init(PARAMS), 0.5)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)]
    assert any("conv1_1" in each for each in names)
    assert not any("bn1_1" in each for each in names)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: run(config(name="sdg")), "sgd"),
        (lambda: run(config(schedule="cosin")), "cosine"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
