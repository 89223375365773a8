"""Augmentation on the device, inside the jitted train step: one random key an example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.data.preprocessing import normalize
from vgg_jax.data.source import Source
from vgg_jax.errors import unknown_name

AUGMENTATIONS = ("none", "pad_crop", "scale_crop")
COLOR_PCAS = ("dataset", "imagenet")

# Eigenvalues and eigenvectors (columns) of the covariance of ImageNet's RGB values, as published
# with fb.resnet.torch and copied into most code since. They are those of values in 0..1: the
# eigenvalues' sum is three times 0.283 squared, the standard deviation of ImageNet's pixels.
IMAGENET_COLOR_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)
IMAGENET_COLOR_EIGENVECTORS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ],
    np.float32,
)


def estimate_color_pca(source: Source, max_images: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Estimates the principal components of a data set's RGB values (Krizhevsky 2012, 4.1).

    Args:
      source: the training set.
      max_images: of a larger set, that many evenly spaced examples are read.

    Returns:
      float32 eigenvalues (3,) of the covariance of values in 0..1, descending, and eigenvectors
      (3, 3) in columns.
    """
    indices = np.linspace(0, len(source) - 1, min(len(source), max_images)).astype(int)
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for index in indices:
        pixels = source[int(index)]["image"].reshape(-1, 3) / 255.0
        count += len(pixels)
        total += pixels.sum(axis=0)
        products += pixels.T @ pixels
    mean = total / count
    eigenvalues, eigenvectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    return eigenvalues[::-1].astype(np.float32), eigenvectors[:, ::-1].astype(np.float32)


def make_eval_transform(data: Any) -> Callable[[jax.Array], jax.Array]:
    """Returns the function from uint8 (N, h, w, 3) to the float32 that the network is fed."""
    return lambda images: normalize(images, data.mean, data.std, data.channel_order)


def make_train_augment(
    data: Any, *, source: Source | None = None
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns the function from typed keys (N,) and uint8 (N, h, w, 3) to float32 (N, h, w, 3).

    An example's result depends on its own key and pixels only, whatever the layout over devices.
    "pad_crop" crops the image's own size out of the image with a black border (He et al. 2015,
    section 4.2); for "scale_crop" the pipeline has rescaled and cropped (VGG, section 3.1). Then
    follow the flip, the colour shift, the normalisation and the cutout (DeVries & Taylor 2017,
    arXiv 1708.04552): a square of zeros around a random pixel, cut off at the border.

    Args:
      data: `config.data`; read are `augment`, `pad`, `flip`, `cutout`, `color_shift`, `color_pca`,
        `mean`, `std` and `channel_order`.
      source: the training source, read for `color_pca="dataset"`.

    Raises:
      UserError: an unknown name in `data`.
    """
    if data.augment not in AUGMENTATIONS:
        raise unknown_name("data.augment", data.augment, AUGMENTATIONS)
    pad = data.pad if data.augment == "pad_crop" else 0
    color_axes = _color_axes(data, source) if data.color_shift else None

    def augment(key: jax.Array, image: jax.Array) -> jax.Array:
        crop_key, flip_key, color_key, cutout_key = jax.random.split(key, 4)
        if pad:
            image = _pad_crop(crop_key, image, pad)
        if data.flip:
            image = jnp.where(jax.random.bernoulli(flip_key), image[:, ::-1], image)
        values = image.astype(jnp.float32)
        if color_axes is not None:
            alphas = data.color_shift * jax.random.normal(color_key, (3,))
            values = values + jnp.sum(color_axes * alphas[None, :], axis=1)[None, None, :]
        values = normalize(values, data.mean, data.std, data.channel_order)
        return _cutout(cutout_key, values, data.cutout) if data.cutout else values

    return jax.vmap(augment)


def _pad_crop(key: jax.Array, image: jax.Array, pad: int) -> jax.Array:
    """Crops the image's own size at random out of the image with a black border of `pad`."""
    padded = jnp.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    return jax.lax.dynamic_slice(padded, (top, left, 0), image.shape)


def _cutout(key: jax.Array, image: jax.Array, side: int) -> jax.Array:
    """Blanks the `side` x `side` pixels around a random one."""
    rows, columns, _ = image.shape
    row_key, column_key = jax.random.split(key)
    top = jax.random.randint(row_key, (), 0, rows) - side // 2
    left = jax.random.randint(column_key, (), 0, columns) - side // 2
    row, column = jnp.arange(rows)[:, None, None], jnp.arange(columns)[None, :, None]
    inside = (row >= top) & (row < top + side) & (column >= left) & (column < left + side)
    return jnp.where(inside, 0, image)


def _color_axes(data: Any, source: Source | None) -> jax.Array:
    """Returns the columns lambda_i p_i of Krizhevsky's shift, for values of 0..255: (3, 3).

    The shift is sum_i alpha_i lambda_i p_i. As lambda, not its root, multiplies, its size depends
    on the unit of the values: lambda is taken on 0..1, as everywhere, and the shift then scaled.
    """
    match data.color_pca:
        case "imagenet":
            eigenvalues, eigenvectors = IMAGENET_COLOR_EIGENVALUES, IMAGENET_COLOR_EIGENVECTORS
        case "dataset":
            if source is None:
                raise ValueError("color_pca='dataset' needs the training source")
            eigenvalues, eigenvectors = estimate_color_pca(source)
        case _:
            raise unknown_name("data.color_pca", data.color_pca, COLOR_PCAS)
    return jnp.asarray(255.0 * eigenvectors * eigenvalues, jnp.float32)
