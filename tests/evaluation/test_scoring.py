"""Masked sums against a ranking by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binomtest

from vgg_jax.evaluation.scoring import accuracies, masked_sums, wilson_interval


@pytest.mark.parametrize("classes", [3, 10])
def test_sums_equal_a_count_by_hand(classes):
    rng = np.random.default_rng(classes)
    logits = rng.normal(size=(50, classes)).astype(np.float32)
    labels = rng.integers(0, classes, 50)
    mask = rng.random(50) < 0.7
    sums = masked_sums(jnp.asarray(logits), jnp.asarray(labels), jnp.asarray(mask))
    order = np.argsort(-logits, axis=1)
    top5 = (order[:, :5] == labels[:, None]).any(1)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    assert int(sums["examples"]) == mask.sum()
    assert int(sums["top1"]) == ((order[:, 0] == labels) & mask).sum()
    assert int(sums["top5"]) == (top5 & mask).sum()
    assert float(sums["loss"]) == pytest.approx(
        -(log_p[np.arange(50), labels] * mask).sum(), rel=1e-5
    )


@pytest.mark.parametrize("logits", [[0.0] * 6, [np.nan] * 6])
def test_constant_or_broken_logits_score_nothing(logits):
    sums = masked_sums(jnp.asarray([logits]), jnp.asarray([0]), jnp.asarray([True]))
    assert (int(sums["top1"]), int(sums["top5"])) == (0, 0)


def test_every_example_must_have_been_counted():
    sums = {"loss": 4.0, "top1": 1.0, "top5": 2.0, "examples": 4.0}
    assert accuracies(sums, 4) == {"loss": 1.0, "top1": 0.25, "top5": 0.5, "examples": 4}
    with pytest.raises(AssertionError, match="4 of 5"):
        accuracies(sums, 5)


@pytest.mark.parametrize(("correct", "examples"), [(0, 7), (3, 9), (95, 100), (40123, 50000)])
def test_wilson_equals_scipys(correct, examples):
    wanted = binomtest(correct, examples).proportion_ci(method="wilson")
    assert wilson_interval(correct, examples) == pytest.approx(tuple(wanted), abs=1e-6)


def test_wilson_stays_within_zero_and_one():
    for correct, examples in ((0, 3), (3, 3), (0, 10**6)):
        low, high = wilson_interval(correct, examples)
        assert 0 <= low <= correct / examples <= high <= 1
        assert low < high
