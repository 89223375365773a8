"""Alignment of features: what changes it, what does not, and its value for unrelated ones."""

import numpy as np
import pytest

from vgg_jax.probes.similarity import best_correlations, linear_cka

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(60, 8)).astype(np.float32) @ np.diag(np.arange(1.0, 9))


def test_rotation_shift_and_scale_do_not_matter():
    rotation, _ = np.linalg.qr(RNG.normal(size=(8, 8)))
    assert linear_cka(FEATURES, 3 * FEATURES @ rotation + 5) == pytest.approx(1, abs=1e-9)


def test_unrelated_features_are_near_zero_even_with_many_channels():
    """The plain estimate would give about 512 / (512 + 40)."""
    found = [linear_cka(RNG.normal(size=(40, 512)), RNG.normal(size=(40, 512))) for _ in range(20)]
    assert abs(np.mean(found)) < 0.05


def test_a_shared_half_gives_the_share():
    """Of two equally strong, independent blocks of many channels, one is shared: 1 / 2."""
    shared, a, b = (RNG.normal(size=(800, 100)) for _ in range(3))
    found = linear_cka(np.hstack([shared, a]), np.hstack([shared, b]))
    assert found == pytest.approx(0.5, abs=0.03)


def test_channels_find_their_partners():
    order = RNG.permutation(8)
    found = best_correlations(FEATURES[:, :5], -2 * FEATURES[:, order] + 1)
    np.testing.assert_allclose(found, 1, atol=1e-9)
    mixed = np.stack([FEATURES[:, 0], np.zeros(60)], 1)
    wanted = np.abs(np.corrcoef(FEATURES[:, 0], FEATURES[:, 1])[0, 1])
    np.testing.assert_allclose(best_correlations(mixed, FEATURES[:, 1:2]), [wanted, 0], atol=1e-9)
