"""Measures singular values of the input-output Jacobian."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.signal_theory.presets import Preset
from vgg_jax.models import VGG
from vgg_jax.models.variants import VARIANTS
from vgg_jax.probes.jacobian import jacobian, predicted_relative_variance, relative_variance
from vgg_jax.rng import stream_key

# Net D's convolutions in one stage, so that one pooling follows all of them; the maps are 8x8.
STACK = (", ".join(VARIANTS["D"]),)
STACK_SIDE = 8
STACK_BATCH = 4  # of which one image varies, with batch norm
# Name: initialiser, activation, norm, pooling (None: J ends before it).
STACKS = {
    "linear, delta-orthogonal": ("delta_orthogonal", "linear", "none", None),
    "linear, delta-orthogonal, stride": ("delta_orthogonal", "linear", "none", "none"),
    "linear, delta-orthogonal, average": ("delta_orthogonal", "linear", "none", "average"),
    "linear, orthogonal": ("orthogonal", "linear", "none", None),
    "linear, Gaussian": ("he_fan_in", "linear", "none", None),
    "tanh, delta-orthogonal": ("delta_orthogonal", "tanh", "none", None),
    "tanh, Gaussian": ("he_fan_in", "tanh", "none", None),
    "ReLU, delta-orthogonal": ("delta_orthogonal", "relu", "none", None),
    "ReLU, orthogonal": ("orthogonal", "relu", "none", None),
    "ReLU, He": ("he_fan_in", "relu", "none", None),
    "ReLU, He, batch norm": ("he_fan_in", "relu", "batch", None),
}
# Square nets of 1x1 kernels, one pixel: initialiser, activation, norm.
SQUARES = {
    "linear, Gaussian": ("he_fan_in", "linear", "none"),
    "linear, orthogonal": ("orthogonal", "linear", "none"),
    "tanh, Gaussian": ("he_fan_in", "tanh", "none"),
    "tanh, orthogonal": ("orthogonal", "tanh", "none"),
    "ReLU, He": ("he_fan_in", "relu", "none"),
    "ReLU, orthogonal": ("orthogonal", "relu", "none"),
    "ReLU, He, batch norm": ("he_fan_in", "relu", "batch"),
}
SMALL = 0.01  # of the largest: such singular values are counted
SAMPLES = 64  # that the square nets' batch norm normalises over

Rows = list[dict[str, Any]]


def stack(name: str, preset: Preset) -> Rows:
    """Measures net D's thirteen convolutions, from an image of three channels to the last map."""
    init, activation, norm, pooling = STACKS[name]
    model = VGG(
        stages=STACK,
        width=preset.stack_width,
        kernel_init=init,
        activation=activation,
        norm=norm,
        pooling=pooling or "none",
    )
    end = "pool1" if pooling else f"relu1_{len(model.conv_stages[0])}"
    images = _noise((STACK_BATCH if norm == "batch" else 1, STACK_SIDE, STACK_SIDE, 3))
    rows = []
    for seed, values in _singular_values(model, end, images, preset.matrix_seeds, slice(None)):
        close = np.abs(values - 1) < 1e-4
        measured = described(values) | {
            "share_of_ones": close.mean(),
            "share_of_zeros": np.mean(values < 1e-4 * values.max()),
            "farthest_from_one": np.abs(values - 1).max(),
        }
        rows += [
            {"net": name, "layers": len(model.conv_stages[0]), "width": "", "seed": seed}
            | {"quantity": quantity, "value": float(value)}
            for quantity, value in measured.items()
        ]
    return rows


def square(name: str, layers: int, width: int, seeds: int) -> Rows:
    """Measures a net of 1x1 kernels and equal widths, from one pixel to the same pixel."""
    init, activation, norm = SQUARES[name]
    model = VGG(
        stages=(f"1-{width} x{layers}",),
        kernel_init=init,
        activation=activation,
        norm=norm,
        pooling="none",
    )
    count = SAMPLES // 4 if norm == "batch" else 1
    images = _noise((count, 2, 2, width))
    pixel = slice(0, 1)
    rows = []
    for seed, values in _singular_values(model, f"relu1_{layers}", images, seeds, pixel):
        rows += [
            {"net": name, "layers": layers, "width": width, "seed": seed}
            | {"quantity": quantity, "value": float(value)}
            for quantity, value in described(values).items()
        ]
    return rows


def predicted_spread(name: str, layers: int, width: int) -> float:
    """Returns the relative variance of s^2 that theory has for a cell of `square`.

    Batch norm is taken as a scaling. What enters of the image is its mean square, for tanh.
    """
    init, activation, _ = SQUARES[name]
    pixel = _noise((1, 2, 2, width))[0, 0, 0]
    return predicted_relative_variance(
        layers, activation, init == "orthogonal", float(jnp.mean(pixel**2))
    )


def described(values: np.ndarray) -> dict[str, float]:
    """Returns what is kept of singular values (n,)."""
    rms = np.sqrt(np.mean(values**2))
    return {
        "largest": values.max(),
        "rms": rms,
        "largest_over_rms": values.max() / rms,
        "share_small": np.mean(values < SMALL * values.max()),
        "relative_variance": relative_variance(values**2),
    }


def _noise(shape: tuple[int, ...]) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def _singular_values(model: VGG, end: str, images: jax.Array, seeds: int, pixels: slice) -> Any:
    """Yields seeds and the singular values of J at the first image: (min(outputs, inputs),).

    Args:
      model: the network.
      end: endpoint that J ends at.
      images: the batch.
      seeds: how many.
      pixels: rows and columns of the first image, and of the endpoint, that J is taken of.
    """
    here = (0, pixels, pixels)

    @jax.jit
    def matrix(key: jax.Array) -> jax.Array:
        variables = model.init(key, images, conv_only=True)

        def function(part: jax.Array) -> jax.Array:
            batch = images.at[here].set(part)
            train = model.norm == "batch"
            (_, endpoints), _ = model.apply(
                variables, batch, train=train, conv_only=True, mutable=["batch_stats"]
            )
            return endpoints[end][here]

        return jacobian(function, images[here])

    for seed in range(seeds):
        found = np.asarray(matrix(stream_key(seed, "params")), np.float64)
        yield seed, np.linalg.svd(found, compute_uv=False)
