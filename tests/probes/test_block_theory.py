"""Blocks in closed form, against their laws and against a net wide enough to obey them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.models.initializers import get_initializer
from vgg_jax.ops.conv import patches
from vgg_jax.probes.block_theory import block_gradient_correlation, block_gradients
from vgg_jax.probes.coherence import gradient_correlation

KINDS = [
    {"norm": norm, "residual": residual} for norm in ("none", "batch") for residual in (False, True)
]


def test_laws_without_borders():
    assert block_gradients(8) == pytest.approx(np.ones(9))
    assert block_gradients(8, residual=True)[0] == pytest.approx(2**4)
    growth = np.pi / (np.pi - 1)  # two convolutions
    assert block_gradients(8, norm="batch")[0] == pytest.approx(growth**8, rel=1e-4)
    deep, deeper = (
        block_gradients(blocks, norm="batch", residual=True)[0] for blocks in (2000, 4000)
    )
    assert np.log2(deeper / deep) == pytest.approx(growth**2 / 2, abs=0.002)


@pytest.mark.parametrize("residual", [False, True])
def test_variances_that_are_given_are_what_norms_divide_by(residual):
    given = np.array([[0.5, 0.25], [2.0, 4.0]])
    found = block_gradients(2, norm="batch", residual=residual, variances=given)
    squares = residual + 1 / given.prod(1)  # of each block; a gate and He's variance cancel
    assert found == pytest.approx(np.sqrt([squares.prod(), squares[1], 1]))


@pytest.mark.parametrize(("norm", "shape"), [("none", (2, 2)), ("batch", (3, 2)), ("batch", (2,))])
def test_variances_that_do_not_fit_are_refused(norm, shape):
    with pytest.raises(ValueError, match=r"give \(2, 2\) and norm='batch'"):
        block_gradients(2, norm=norm, variances=np.ones(shape))


def test_padding_takes_gradient_away():
    # The slowest mode of a path of n positions under a window of three, squared for both axes.
    kept = ((1 + 2 * np.cos(np.pi / 9)) / 3) ** 2
    ratios = block_gradients(40, image_size=8)
    assert ratios[0] / ratios[1] == pytest.approx(kept)  # two convolutions, and a root
    assert np.all(
        block_gradients(8, residual=True, image_size=8)[:-1] < 2.0 ** np.arange(4, 0, -0.5)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_wide_net(kind):
    """Deep enough that batch norm has to know which patterns zero padding leaves in its maps."""
    blocks, channels, side = 10, 64, 8
    he = get_initializer("he_fan_in")

    def seen(x):
        if kind["norm"] == "batch":
            x = (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)))
        return jax.nn.relu(x)

    @jax.jit
    def measure(key):
        keys = jax.random.split(key, 3)
        shape = (2 * blocks + 1, 3, 3, channels, channels)
        kernels = jax.vmap(lambda key: he(key, shape[1:], jnp.float32))(
            jax.random.split(keys[2], shape[0])
        )
        x = jax.random.normal(keys[0], (16, side, side, channels))
        readout = jax.random.normal(keys[1], x.shape)

        def block(y, given):
            (first, second), nudge = given
            branch = patches(seen(patches(seen(y), first)), second)
            return branch + (y if kind["residual"] else 0) + nudge, None

        def loss(nudges):
            y = patches(seen(x), kernels[-1]) + nudges[0]
            pairs = kernels[:-1].reshape(blocks, 2, *shape[1:])
            y, _ = jax.lax.scan(block, y, (pairs, nudges[1:]))
            return jnp.sum(readout * seen(y))

        gradients = jax.grad(loss)(jnp.zeros((blocks + 1, *x.shape)))
        return jnp.mean(gradients**2, (1, 2, 3, 4))

    squares = np.mean([measure(jax.random.key(seed)) for seed in range(3)], 0)
    predicted = block_gradients(blocks, image_size=side, **kind)
    assert np.sqrt(squares / squares[-1]) == pytest.approx(predicted, rel=0.1)


def test_correlation_without_shortcut_is_that_of_single_layers():
    for norm in ("none", "batch"):
        found = block_gradient_correlation(0.5, 6, norm=norm)
        layers = gradient_correlation(0.5, 14, norm=norm)
        assert found == pytest.approx(layers[1::2])


def test_shortcuts_keep_gradients_alike():
    plain, residual, normalized, both = (
        block_gradient_correlation(0.5, 24, **kind)[-1] for kind in KINDS
    )
    assert normalized < 1e-12
    assert residual > 5 * plain
    assert both > 5e11 * normalized
