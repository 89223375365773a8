"""Layers drawn anew from the top, and the correlation of ranks."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from tests.models.nets import small_vgg
from vgg_jax.features.sanity_check import (
    fresh_variables,
    randomized_from_top,
    rank_correlations,
)


def test_layers_are_drawn_anew_from_the_top():
    model = small_vgg(norm="batch", head="imagenet", head_features=(5,))
    trained, fresh = (fresh_variables(model, seed) for seed in (0, 1))
    mixed = randomized_from_top(trained, fresh, model, "conv2_2")
    for name in ("fc6", "fc8", "conv2_2", "bn2_2"):
        assert mixed["params"][name] is fresh["params"][name]
    for name in ("conv1_1", "conv2_1", "bn2_1"):
        assert mixed["params"][name] is trained["params"][name]
    assert mixed["batch_stats"]["bn2_2"] is fresh["batch_stats"]["bn2_2"]
    assert mixed["batch_stats"]["bn2_1"] is trained["batch_stats"]["bn2_1"]
    kernels = [each["params"]["conv1_1"]["kernel"] for each in (trained, fresh)]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    again = fresh_variables(model, 1)["params"]["conv1_1"]["kernel"]
    np.testing.assert_array_equal(again, kernels[1])


def test_rank_correlations():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, (3, 40)).astype(float)  # with ties
    second = rng.normal(size=(3, 40)) + first
    wanted = [spearmanr(*pair).statistic for pair in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlations(first, second), wanted)
    order = np.arange(4.0)[None]
    assert rank_correlations(order, -(order**3)) == pytest.approx([-1])
    assert rank_correlations(order, np.ones((1, 4))) == 0
