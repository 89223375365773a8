"""Filters rescaled to a mean activation of 1 leave the network's function as it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.evaluation.nets import replaced, tiny_weights
from tests.models.nets import forward, small_vgg
from vgg_jax.errors import UserError
from vgg_jax.features.normalization import normalize_weights

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_normalized_weights_compute_the_same(weights, pooling):
    model = weights.model.clone(pooling=pooling)
    params = jax.tree.map(lambda leaf: leaf + 0.01, weights.variables["params"])
    # A filter that never fires keeps its scale.
    params["conv1_2"]["bias"] = params["conv1_2"]["bias"].at[1].set(-1e3)
    own = dataclasses.replace(weights, model=model, variables={"params": params, "batch_stats": {}})
    pictures = RNG.integers(0, 256, (3, 8, 8, 3), np.uint8)
    normalized = normalize_weights(own, pictures)
    inputs = weights.preprocessing.normalize(jnp.asarray(pictures))
    before, _ = forward(model, own.variables, inputs)
    after, endpoints = forward(model, normalized.variables, inputs)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    for name in ("relu1_1", "relu1_2", "relu2_1", "relu2_2"):
        means = np.asarray(endpoints[name]).mean((0, 1, 2))
        np.testing.assert_allclose(means[means > 0], 1, rtol=1e-4)
        assert (means == 0).sum() >= (name == "relu1_2")
    assert "3 images" in normalized.origin["mean_activations"]


def test_only_plain_networks_can_be_normalized(weights):
    other = replaced(weights, model=small_vgg(norm="batch"))
    with pytest.raises(UserError, match="batch norm"):
        normalize_weights(other, RNG.integers(0, 256, (1, 12, 16, 3), np.uint8))
    with pytest.raises(UserError, match="at least one"):
        normalize_weights(weights, [])
