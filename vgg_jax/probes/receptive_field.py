"""What part of the image a unit sees: its effective receptive field, measured and predicted.

Luo et al. (2016), arXiv 1701.04128: the gradient of a unit in the centre of a map with respect to
the image falls off like a Gaussian from the middle of the theoretical receptive field
(`vgg_jax.models.summary.receptive_field`). With independent random weights the expected square of
the gradient is, layer by layer, convolved with a box as wide as the kernel, whose variance is
(k^2 - 1) / 12. These add up, each times the square of the distance in pixels between neighbouring
positions of the layer's input. A 2x2 pooling is such a box of side 2, whether it averages or
hands the gradient to any one of four. The magnitude of a Gaussian gradient is a factor of the root
of 2 wider than its square; after few layers, whose boxes are no Gaussian yet, it is less.

A window is (side, stride), as in `vgg_jax.models.summary`.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.models.variants import Stage

Window = tuple[int, int]


def layer_windows(stages: Sequence[Stage]) -> dict[str, tuple[Window, ...]]:
    """Returns the windows from the image up to each endpoint, itself included.

    Args:
      stages: the convolutions, as in `VGG.conv_stages`; a 2x2 pooling ends each stage.

    Returns:
      {"conv1_1": ((3, 1),), ..., "pool1": ..., ...}, input to output.
    """
    windows: list[Window] = []
    found = {}
    for s, stage in enumerate(stages, 1):
        for i, conv in enumerate(stage, 1):
            windows.append((conv.kernel, 1))
            found[f"conv{s}_{i}"] = tuple(windows)
        windows.append((2, 2))
        found[f"pool{s}"] = tuple(windows)
    return found


def predicted_spread(windows: Iterable[Window]) -> float:
    """Returns the standard deviation, in pixels along an axis, of the expected squared gradient.

    sqrt(sum of s^2 (k^2 - 1) / 12), s the product of the strides before a layer of window k: of n
    layers without stride sqrt(n (k^2 - 1) / 12). Exact for independent random weights on a map
    without borders, and for the gradient itself where all weights are equal.
    """
    variance, jump = 0.0, 1
    for side, stride in windows:
        variance += jump**2 * (side**2 - 1) / 12
        jump *= stride
    return math.sqrt(variance)


def expected_profile(windows: Iterable[Window]) -> np.ndarray:
    """Returns the expected squared gradient along an axis: boxes, convolved with each other.

    The expected map is the outer product of the profile with itself, for the weights and maps of
    `predicted_spread`, which is the profile's standard deviation.

    Returns:
      float64 (side of the theoretical receptive field,), sum 1.
    """
    profile, jump = np.ones(1), 1
    for side, stride in windows:
        box = np.zeros((side - 1) * jump + 1)
        box[::jump] = 1 / side
        profile = np.convolve(profile, box)
        jump *= stride
    return profile


def predicted_magnitude_spread(windows: Iterable[Window]) -> float:
    """Returns the standard deviation, in pixels along an axis, of the root of the expected map."""
    profile = np.sqrt(expected_profile(windows))
    return map_spread(np.outer(profile, profile))[0]


def squared_gradient_map(
    forward: Callable[[jax.Array], jax.Array], images: jax.Array, key: jax.Array
) -> jax.Array:
    """Returns the squared gradient of a centre unit with respect to the image, up to a factor.

    The gradient is that of the sum of all channels at the centre of the map, each with a random
    sign: its expected square is the sum over the channels of theirs.

    Args:
      forward: images -> map (N, h, w, channels); no example may depend on another.
      images: float (N, H, W, C); the centre's theoretical receptive field should lie inside.
      key: of the signs, drawn anew for every example.

    Returns:
      float32 (H, W): the mean over examples and image channels, its largest gradient scaled to 1
      so that no square leaves float32; all zero where no gradient arrives.
    """

    def centre(images: jax.Array) -> jax.Array:
        maps = forward(images)
        unit = maps[:, maps.shape[1] // 2, maps.shape[2] // 2]
        return jnp.sum(unit * jax.random.rademacher(key, unit.shape, unit.dtype))

    gradient = jax.grad(centre)(images).astype(jnp.float32)
    largest = jnp.max(jnp.abs(gradient))
    gradient /= jnp.where(largest > 0, largest, 1)  # a NaN or an infinity goes through
    return jnp.mean(jnp.square(gradient), (0, 3))


def map_spread(weights: np.ndarray) -> tuple[float, float]:
    """Returns the standard deviations, in pixels along rows and along columns, of a map.

    Args:
      weights: (H, W), not negative, such as a squared gradient, or its root for the magnitude.

    Raises:
      ValueError: the map is zero everywhere, or not finite.
    """
    wide = np.asarray(weights, np.float64)
    total = wide.sum()
    if not (np.isfinite(total) and total > 0):
        raise ValueError(f"a map whose sum is {total} has no width")

    def deviation(profile: np.ndarray) -> float:
        places = np.arange(len(profile))
        mean = (profile * places).sum() / total
        return float(np.sqrt((profile * (places - mean) ** 2).sum() / total))

    return deviation(wide.sum(1)), deviation(wide.sum(0))
