"""Colours kept in style transfer: moments and chrominance are those of the photo."""

import numpy as np
import pytest

from vgg_jax.features.color import (
    YIQ,
    luminance,
    match_colors,
    match_luminance,
    with_chrominance,
)

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (12, 16, 3), np.uint8)
PAINTING = (RNG.integers(0, 99, (9, 20, 3)) @ RNG.uniform(0, 0.8, (3, 3))).astype(np.uint8)


def moments(picture):
    pixels = picture.reshape(-1, 3).astype(float)
    return pixels.mean(0), np.cov(pixels.T)


def test_matched_colours_have_the_mean_and_covariance_of_the_photo():
    matched = match_colors(PAINTING, PHOTO)
    assert matched.shape == PAINTING.shape
    for found, wanted in zip(moments(matched), moments(PHOTO), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=0.05)
    np.testing.assert_allclose(match_colors(PHOTO, PHOTO), PHOTO, atol=1e-3)


def test_a_grey_painting_stays_without_variation_in_other_directions():
    grey = np.repeat(RNG.integers(0, 256, (9, 9, 1), np.uint8), 3, axis=2)
    matched = match_colors(grey, PHOTO)
    mean, covariance = moments(matched)
    np.testing.assert_allclose(mean, moments(PHOTO)[0], rtol=1e-4)
    values = np.linalg.eigvalsh(covariance)
    assert values[2] > 100
    assert values[1] == pytest.approx(0, abs=1e-4 * values[2])


def test_the_chrominance_is_the_photos_and_the_luminance_the_pictures():
    picture = RNG.uniform(0, 255, PHOTO.shape)
    mixed = with_chrominance(picture, PHOTO)
    np.testing.assert_allclose(mixed @ YIQ[1:].T, PHOTO @ YIQ[1:].T, atol=1e-3)
    np.testing.assert_allclose(luminance(mixed), luminance(picture), atol=1e-3)
    np.testing.assert_allclose(with_chrominance(PHOTO, PHOTO), PHOTO, atol=1e-3)


def test_luminance_is_grey_and_can_be_matched():
    grey = luminance(PHOTO)
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    np.testing.assert_allclose(luminance(grey), grey, atol=1e-3)
    matched = match_luminance(luminance(PAINTING), grey)
    assert matched.mean() == pytest.approx(grey.mean(), rel=1e-4)
    assert matched.std() == pytest.approx(grey.std(), rel=1e-4)
    flat = match_luminance(np.full((3, 3, 3), 9.0), grey)
    np.testing.assert_allclose(flat, grey.mean(), rtol=1e-5)
