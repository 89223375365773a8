import functools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.nets import he_start, random_images, small_vgg, train_forward
from vgg_jax.errors import UserError
from vgg_jax.models.layers import (
    BatchNorm,
    Dropout,
    WindowDense,
    guided_relu,
    local_response_norm,
)

FLOAT32 = {"dtype": jnp.float32, "param_dtype": jnp.float32}


def batch_norm(**fields: Any) -> BatchNorm:
    defaults = {"momentum": 0.9, "epsilon": 1e-5, "group": None, "axis_name": None}
    return BatchNorm(**(defaults | FLOAT32 | fields))


def maps(count: int = 8, channels: int = 3, mean: float = 0.0) -> jax.Array:
    scale = jnp.arange(1, channels + 1)
    return mean + scale * jax.random.normal(jax.random.key(5), (count, 4, 6, channels))


def normalized(bn: BatchNorm, x: jax.Array, train: bool = True) -> tuple[jax.Array, dict]:
    """Output with scale 2 and bias 0.5, and the new statistics, from mean 1 and variance 3."""
    channels = x.shape[-1]
    variables = {
        "params": {"scale": jnp.full(channels, 2.0), "bias": jnp.full(channels, 0.5)},
        "batch_stats": {"mean": jnp.ones(channels), "var": jnp.full(channels, 3.0)},
    }
    y, updates = _apply(bn, train)(variables, x)
    return y, updates["batch_stats"]


@functools.cache  # batches of one shape share a program
def _apply(bn: BatchNorm, train: bool) -> Any:
    return jax.jit(partial(bn.apply, train=train, mutable=["batch_stats"]))


@pytest.mark.parametrize(("height", "width"), [(3, 3), (5, 3), (4, 7)])
def test_window_dense_is_a_matrix_product_at_every_position(height: int, width: int) -> None:
    dense = WindowDense(10, 3, jax.nn.initializers.normal(0.1), **FLOAT32)
    x = jax.random.normal(jax.random.key(0), (2, height, width, 4))
    variables = jax.jit(dense.init)(jax.random.key(1), x)
    kernel = np.asarray(variables["params"]["kernel"])
    assert kernel.shape == (3, 3, 4, 10)
    scores = np.asarray(dense.apply(variables, x))
    assert scores.shape == (2, height - 2, width - 2, 10)
    for row in range(height - 2):
        for column in range(width - 2):
            window = np.asarray(x)[:, row : row + 3, column : column + 3].reshape(2, -1)
            np.testing.assert_allclose(
                scores[:, row, column], window @ kernel.reshape(-1, 10), rtol=1e-4, atol=1e-5
            )


def test_batch_norm_of_the_batch() -> None:
    x = maps()
    y, _ = normalized(batch_norm(epsilon=0.1), x)
    mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2))
    np.testing.assert_allclose(y, 2 * (x - mean) / np.sqrt(var + 0.1) + 0.5, rtol=1e-4, atol=1e-5)


def test_batch_norm_by_running_statistics() -> None:
    x = maps()
    y, stats = normalized(batch_norm(epsilon=1.0), x, train=False)
    np.testing.assert_allclose(y, 2 * (x - 1) / np.sqrt(3 + 1.0) + 0.5, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(stats["mean"], 1)
    np.testing.assert_array_equal(stats["var"], 3)


def test_batch_norm_keeps_digits_far_from_zero() -> None:
    y, stats = normalized(batch_norm(momentum=0.0), maps(mean=3000.0))
    np.testing.assert_allclose(stats["var"], np.var(maps(), (0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(np.std(y, (0, 1, 2)), 2, rtol=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.75, 1.0])
def test_running_statistics_follow_flax_and_are_biased(momentum: float) -> None:
    x = maps()
    _, stats = normalized(batch_norm(momentum=momentum), x)
    mean, var = np.mean(x, (0, 1, 2)), np.var(x, (0, 1, 2), ddof=0)
    np.testing.assert_allclose(stats["mean"], momentum + (1 - momentum) * mean, rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 3 * momentum + (1 - momentum) * var, rtol=1e-5)


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_groups_are_normalised_as_separate_batches(group: int) -> None:
    x = maps(8)
    y, stats = normalized(batch_norm(group=group), x)
    parts = [normalized(batch_norm(), part) for part in x.reshape(-1, group, *x.shape[1:])]
    np.testing.assert_allclose(y, np.concatenate([p[0] for p in parts]), rtol=1e-5, atol=1e-5)
    for name in ("mean", "var"):
        np.testing.assert_allclose(
            stats[name], np.mean([p[1][name] for p in parts], axis=0), rtol=1e-5
        )


@pytest.mark.parametrize("group", [None, 2])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_mapped_axis_changes_nothing(group: int | None, dtype: Any) -> None:
    """Four devices with two examples each: whole-batch statistics, or groups within a device."""
    x = maps(8).astype(dtype)  # the output is not rounded, so that it can be compared
    y, stats = normalized(batch_norm(group=group), x)
    mapped = batch_norm(group=group, axis_name="batch")
    y_mapped, stats_mapped = jax.vmap(lambda part: normalized(mapped, part), axis_name="batch")(
        x.reshape(4, 2, *x.shape[1:])
    )
    np.testing.assert_allclose(y_mapped.reshape(y.shape), y, rtol=1e-5, atol=1e-5)
    for name in ("mean", "var"):
        for device in range(4):
            np.testing.assert_allclose(stats_mapped[name][device], stats[name], rtol=1e-5)


@pytest.mark.parametrize("group", [None, 2])
@pytest.mark.parametrize("devices", [1, 4])
def test_batch_norm_has_the_gradients_of_its_formula(group: int | None, devices: int) -> None:
    """First and second order; of the sum over devices, where the batch is spread over several."""

    def by_formula(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        parts = x.reshape(-1, group or len(x), *x.shape[1:])
        mean, var = (f(parts, axis=(1, 2, 3), keepdims=True) for f in (jnp.mean, jnp.var))
        return ((parts - mean) / jnp.sqrt(var + 0.1) * scale + bias).reshape(x.shape)

    def by_layer(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        bn = BatchNorm(0.9, 0.1, group, "batch", jnp.float64, jnp.float64)
        stats = {"mean": jnp.zeros_like(scale), "var": jnp.ones_like(scale)}
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        return bn.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    def gradients(norm: Callable[..., jax.Array], *at: jax.Array) -> Any:
        first = jax.grad(lambda *at: jnp.sum(jnp.sin(norm(*at)) ** 2), argnums=(0, 1, 2))
        second = jax.grad(lambda *at: jnp.sum(jnp.sin(first(*at)[0])), argnums=(0, 1))
        return first(*at), second(*at)

    with jax.enable_x64(True):
        x = jnp.asarray(maps(), jnp.float64)
        scale, bias = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.5, 0.0, 1.0])
        expected = jax.jit(partial(gradients, by_formula))(x, scale, bias)
        spread = jax.vmap(partial(gradients, by_layer), (0, None, None), axis_name="batch")
        actual = jax.jit(spread)(x.reshape(devices, -1, *x.shape[1:]), scale, bias)
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(actual), strict=True):
            whole = b.sum(0) if a.ndim == 1 else b.reshape(a.shape)
            np.testing.assert_allclose(whole, a, rtol=1e-9, atol=1e-9)


def test_batch_must_be_whole_groups() -> None:
    with pytest.raises(UserError, match=r"8 examples is not a multiple of model.norm_group=3"):
        normalized(batch_norm(group=3), maps(8))


def test_statistics_are_float32_in_bfloat16() -> None:
    x = maps(mean=50.0).astype(jnp.bfloat16)
    bn = batch_norm(momentum=0.0, dtype=jnp.bfloat16)
    y, stats = normalized(bn, x)
    assert y.dtype == jnp.bfloat16
    assert stats["var"].dtype == stats["mean"].dtype == jnp.float32
    np.testing.assert_allclose(
        stats["var"], np.var(np.asarray(x, np.float32), (0, 1, 2)), rtol=1e-4
    )
    assert np.abs(np.asarray(y, np.float32).mean((0, 1, 2)) - 0.5).max() < 0.01


def test_constants_in_half_precision_have_no_negative_variance() -> None:
    """In one pass, rounding leaves some of them below zero, by more than epsilon."""
    constants = jnp.linspace(100, 1000, 64).astype(jnp.bfloat16)
    x = jnp.broadcast_to(constants, (7, 5, 3, 64))
    y, stats = normalized(batch_norm(momentum=0.0), x)
    np.testing.assert_allclose(stats["mean"], constants.astype(jnp.float32), rtol=1e-6)
    assert (stats["var"] >= 0).all()
    assert np.isfinite(y).all()


def test_norm_group_reaches_the_network() -> None:
    images = random_images(4)
    grouped, whole = small_vgg(norm="batch", norm_group=2), small_vgg(norm="batch")
    variables = he_start(whole, images)
    (logits, _), _ = train_forward(grouped, variables, images)
    parts = [train_forward(whole, variables, part)[0][0] for part in images.reshape(2, 2, 8, 8, 3)]
    np.testing.assert_allclose(logits, np.concatenate(parts), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_zeroes_at_its_rate(rate: float) -> None:
    x = jnp.ones((400, 250))
    y = np.asarray(Dropout(rate).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)}))
    kept = y[y != 0]
    np.testing.assert_allclose(kept, kept[0])
    in_effect = 1 - 1 / kept[0]  # inverted scaling by the probability in effect
    assert abs(in_effect - rate) <= 1 / 512
    assert abs((y == 0).mean() - in_effect) < 5 * (0.25 / y.size) ** 0.5
    np.testing.assert_allclose(y.mean(), 1, atol=5 * (9 / y.size) ** 0.5)
    # Independent across rows and columns.
    assert abs(np.corrcoef(y[0], y[1])[0, 1]) < 0.3


def test_dropout_is_the_identity_where_it_should_be() -> None:
    x = jnp.arange(6.0)
    assert Dropout(0.5).apply({}, x, train=False) is x
    assert Dropout(0.0).apply({}, x, train=True) is x


def test_lrn_is_krizhevskys_formula() -> None:
    x = 100 * np.asarray(jax.random.normal(jax.random.key(2), (2, 3, 3, 8)))
    expected = np.empty_like(x)
    for c in range(8):
        near = x[..., max(0, c - 2) : c + 3]
        expected[..., c] = x[..., c] / (2 + 1e-4 * (near**2).sum(-1)) ** 0.75
    np.testing.assert_allclose(local_response_norm(jnp.asarray(x)), expected, rtol=1e-5)
    half = local_response_norm(jnp.asarray(x, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(half, np.float32), expected, rtol=0.02, atol=1e-3)


def test_guided_relu_hands_back_what_is_positive_on_both_ways() -> None:
    x = jnp.array([-1.0, 0.0, 2.0, 3.0])
    y, pull_back = jax.vjp(guided_relu, x)
    np.testing.assert_array_equal(y, [0, 0, 2, 3])
    (gradient,) = pull_back(jnp.array([5.0, 6.0, 7.0, -8.0]))
    np.testing.assert_array_equal(gradient, [0, 0, 7, 0])
