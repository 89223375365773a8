import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vgg_jax.data.arrays import ArraySource
from vgg_jax.data.augment import (
    IMAGENET_COLOR_EIGENVALUES,
    IMAGENET_COLOR_EIGENVECTORS,
    estimate_color_pca,
    make_eval_transform,
    make_train_augment,
)
from vgg_jax.errors import UserError

RNG = np.random.default_rng(0)


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def augment(config, images, seed=0, source=None):
    images = jnp.asarray(images)
    return np.asarray(
        jax.jit(make_train_augment(config, source=source))(keys(len(images), seed), images)
    )


def test_none_is_the_eval_transform(data_config):
    images = RNG.integers(0, 256, (3, 8, 8, 3), np.uint8)
    mean, std = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
    config = data_config(mean=mean, std=std)
    expected = (images - np.array(mean)) / np.array(std)
    evaluated = make_eval_transform(config)(jnp.asarray(images))
    assert evaluated.dtype == jnp.float32
    np.testing.assert_allclose(evaluated, expected, atol=1e-6)
    np.testing.assert_allclose(augment(config, images), expected, atol=1e-6)


def test_an_example_depends_on_its_own_key_only(data_config):
    config = data_config(augment="pad_crop", pad=2, flip=True, cutout=3, color_shift=0.1)
    images = jnp.asarray(RNG.integers(0, 256, (8, 8, 8, 3), np.uint8))
    fn = jax.jit(make_train_augment(config))
    whole = fn(keys(8), images)
    order = np.array([5, 2, 7])
    np.testing.assert_array_equal(fn(keys(8)[order], images[order]), whole[order])
    assert (fn(keys(8, seed=1), images) != whole).any(axis=(1, 2, 3)).all()


def test_pad_crop_gives_every_window_about_as_often(data_config):
    image = RNG.integers(1, 256, (6, 6, 3), np.uint8)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = {}
    for top in range(3):
        for left in range(3):
            window = padded[top : top + 6, left : left + 6]
            windows[window.astype(np.float32).tobytes()] = (top, left, False)
            windows[window[:, ::-1].astype(np.float32).tobytes()] = (top, left, True)
    assert len(windows) == 18
    config = data_config(augment="pad_crop", pad=1, flip=True)
    out = augment(config, np.broadcast_to(image, (1800, 6, 6, 3)))
    counts = dict.fromkeys(windows.values(), 0)
    for crop in out:
        counts[windows[crop.tobytes()]] += 1
    assert all(60 < count < 145 for count in counts.values())  # 100 expected, 4 sigma


@pytest.mark.parametrize(("flip", "share"), [(False, 0), (True, 0.5)])
def test_flip(data_config, flip, share):
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    out = augment(data_config(flip=flip), np.broadcast_to(image, (1000, 2, 2, 3)))
    flipped = (out == image[:, ::-1]).all(axis=(1, 2, 3))
    assert ((out == image).all(axis=(1, 2, 3)) ^ flipped).all()
    assert flipped.mean() == pytest.approx(share, abs=0.06)


@pytest.mark.parametrize("side", [1, 2, 3, 12])
def test_cutout_blanks_a_square_around_any_pixel(data_config, side):
    shape, count = (5, 6), 2000
    images = np.full((count, *shape, 3), 200, np.uint8)
    config = data_config(cutout=side, mean=(100.0,) * 3, std=(10.0,) * 3)
    blank = augment(config, images) == 0
    assert (blank == blank[..., :1]).all()  # of all channels
    squares = {}
    for row in range(shape[0]):
        for column in range(shape[1]):
            square = np.zeros(shape, bool)
            top, left = row - side // 2, column - side // 2
            square[max(top, 0) : top + side, max(left, 0) : left + side] = True
            squares.setdefault(square.tobytes(), []).append((row, column))
    seen = [squares[b.tobytes()] for b in np.ascontiguousarray(blank[..., 0])]
    for square in squares.values():
        share = sum(s == square for s in seen) / count
        assert share == pytest.approx(len(square) / 30, abs=4 * (0.25 / count) ** 0.5)


class TestColorShift:
    def test_is_one_value_an_image_of_krizhevskys_covariance(self, data_config):
        images = np.broadcast_to(RNG.integers(0, 256, (4, 4, 3), np.uint8), (4000, 4, 4, 3))
        shift = augment(data_config(color_shift=0.1), images) - images
        assert np.ptp(shift, axis=(1, 2)).max() < 1e-4
        shift = shift[:, 0, 0]
        axes = 255 * 0.1 * IMAGENET_COLOR_EIGENVECTORS * IMAGENET_COLOR_EIGENVALUES
        np.testing.assert_allclose(np.cov(shift.T), axes @ axes.T, atol=0.08 * 10.2)
        np.testing.assert_allclose(shift.mean(axis=0), 0, atol=0.3)
        alphas = np.linalg.solve(axes, shift.T)
        np.testing.assert_allclose(np.cov(alphas), np.eye(3), atol=0.08)

    def test_published_vectors_are_orthonormal(self):
        vectors = IMAGENET_COLOR_EIGENVECTORS
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)

    def test_comes_before_the_normalisation(self, data_config):
        images = np.zeros((16, 2, 2, 3), np.uint8)
        plain = augment(data_config(color_shift=0.1), images)
        mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
        scaled = augment(data_config(color_shift=0.1, mean=mean, std=std), images)
        np.testing.assert_allclose(scaled, (plain - np.array(mean)) / np.array(std), atol=1e-4)

    def test_estimate_finds_the_covariance(self):
        axes = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
        deviations = np.array([40.0, 20.0, 8.0])
        pixels = 128 + RNG.normal(size=(50 * 64, 3)) * deviations @ axes.T
        images = np.clip(np.round(pixels), 0, 255).astype(np.uint8).reshape(50, 8, 8, 3)
        source = ArraySource(images, np.zeros(50, np.int32), ("any",))
        eigenvalues, eigenvectors = estimate_color_pca(source)
        covariance = np.cov(images.reshape(-1, 3).T / 255, bias=True)
        np.testing.assert_allclose(
            eigenvectors * eigenvalues @ eigenvectors.T, covariance, atol=1e-6
        )
        assert (np.diff(eigenvalues) < 0).all()
        np.testing.assert_allclose(np.sqrt(eigenvalues) * 255, deviations, rtol=0.05)

    def test_estimate_reads_a_sample_of_a_large_set(self):
        images = RNG.integers(0, 256, (40, 4, 4, 3), np.uint8)
        source = ArraySource(images, np.zeros(40, np.int32), ("any",))
        sampled = ArraySource(images[[0, 13, 26, 39]], np.zeros(4, np.int32), ("any",))
        np.testing.assert_array_equal(
            estimate_color_pca(source, max_images=4)[0], estimate_color_pca(sampled)[0]
        )

    def test_dataset_axes_are_used(self, data_config):
        images = np.zeros((10, 4, 4, 3), np.uint8)
        images[:, 2:, :, 1] = 200  # only green varies
        source = ArraySource(images, np.zeros(10, np.int32), ("any",))
        config = data_config(color_shift=0.1, color_pca="dataset")
        shift = augment(config, images, source=source)[:, 0, 0]
        np.testing.assert_allclose(shift[:, [0, 2]], 0, atol=1e-5)
        assert shift[:, 1].std() > 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"augment": "padcrop"}, "'padcrop'. Did you mean 'pad_crop'"),
        ({"color_shift": 0.1, "color_pca": "imagnet"}, "'imagnet'. Did you mean 'imagenet'"),
    ],
)
def test_unknown_names(data_config, overrides, message):
    with pytest.raises(UserError, match=message):
        make_train_augment(data_config(**overrides))
