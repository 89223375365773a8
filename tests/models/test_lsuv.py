"""LSUV: what it rescales, when it stops, what it refuses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.nets import random_images, small_vgg, train_forward
from vgg_jax.errors import UserError
from vgg_jax.models.lsuv import lsuv


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"norm": "batch"},
        {"activation": "tanh", "residual": True},
        {"activation": "sigmoid", "kernel_init": "paper"},
    ],
    ids=str,
)
def test_lsuv_gives_every_layer_unit_variance(fields: dict[str, Any]) -> None:
    model = small_vgg(
        **({"kernel_init": "lsuv", "head": "cifar", "head_features": (16, 16)} | fields),
        dropout=0.5,
    )
    images = 3 * random_images(16)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    rescaled, measured = lsuv(model, variables, images)

    assert tuple(measured) == model.layer_names
    (_, endpoints), _ = train_forward(model.clone(dropout=0.0), rescaled, images)
    for name, variances in measured.items():
        assert 0.9 <= variances[-1] <= 1.1
        assert len(variances) <= 2  # without biases one rescaling is exact
        np.testing.assert_allclose(endpoints[name].var(), variances[-1], rtol=1e-4)
        before, after = variables["params"][name], rescaled["params"][name]
        factor = np.prod([v**-0.5 for v in variances[:-1]])
        np.testing.assert_allclose(after["kernel"], factor * before["kernel"], rtol=1e-5)
        np.testing.assert_array_equal(after["bias"], before["bias"])
    assert any(len(variances) == 2 for variances in measured.values())


def test_lsuv_iterates_where_a_bias_adds_variance() -> None:
    model = small_vgg(kernel_init="lsuv")
    images = random_images(16)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    bias = jnp.linspace(-0.7, 0.7, 4)
    variables["params"]["conv1_1"]["bias"] = bias
    variables["params"]["conv1_1"]["kernel"] *= 5
    _, measured = lsuv(model, variables, images, tolerance=0.02)
    assert 2 < len(measured["conv1_1"]) <= 11
    assert abs(measured["conv1_1"][-1] - 1) <= 0.02
    # No kernel can bring the variance below that of the biases: it stops, and says what it got.
    variables["params"]["conv1_1"]["bias"] = 10 * bias
    _, measured = lsuv(model, variables, images, max_iterations=3)
    assert len(measured["conv1_1"]) == 4
    assert measured["conv1_1"][-1] > 1.1


def test_lsuv_refuses_images_that_tell_nothing() -> None:
    model = small_vgg(kernel_init="lsuv")
    images = jnp.zeros((4, 8, 8, 3))
    with pytest.raises(UserError, match="conv1_1 has variance 0"):
        lsuv(model, model.init(jax.random.key(0), images), images)
