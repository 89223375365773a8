"""Measures ln |J u|^2 over random ReLU nets, for one image and one direction u."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.models import VGG
from vgg_jax.models.variants import VARIANTS
from vgg_jax.probes.jacobian import (
    LogNorm,
    log_norm,
    log_norm_to_leading_order,
    log_squared_norm,
    pushforward,
)
from vgg_jax.rng import stream_key

CLASSES = 10
ENDS = ("convolutions", "logits")  # where J ends: after the last activation; after the classifier


def _of_1x1(variant: str) -> tuple[str, ...]:
    """The channels of a variant with 1x1 kernels, in one stage."""
    return (", ".join(stage.replace("3-", "1-") for stage in VARIANTS[variant]),)


# Fully connected nets, written as 1x1 convolutions: equal sums of 1/n in the first three.
ONE_PIXEL = {
    "16 x 4": ("1-16 x4",),
    "32 x 8": ("1-32 x8",),
    "64 x 16": ("1-64 x16",),
    "128 x 8": ("1-128 x8",),
    "64 x 4": ("1-64 x4",),
    "32 x 16": ("1-32 x16",),
    "32 x 32": ("1-32 x32",),
    "A of 1x1": _of_1x1("A"),
    "D of 1x1": _of_1x1("D"),
}
# Real ones at 32 pixels: the variant and its pooling.
REAL = {"A": ("A", "max"), "D": ("D", "max"), "D, stride": ("D", "none")}


def network(net: str) -> VGG:
    """Returns a net of He's initialisation with one linear layer after its convolutions."""
    variant, pooling = REAL.get(net, ("D", "none"))
    return VGG(
        variant=variant,
        stages=ONE_PIXEL.get(net),
        pooling=pooling,
        head="linear",
        head_window=1,
        num_classes=CLASSES,
    )


def widths(net: str) -> list[int]:
    """Returns the channels of every convolution."""
    return [conv.channels for stage in network(net).conv_stages for conv in stage]


def predicted(net: str, end: str) -> tuple[LogNorm, LogNorm]:
    """Returns the moments of ln(|J u|^2 / E|J u|^2): to leading order, and exactly."""
    last = CLASSES if end == "logits" else None
    return log_norm_to_leading_order(widths(net), last), log_norm(widths(net), last)


def measure_net(net: str, seeds: int) -> list[dict[str, Any]]:
    """Returns ln |J u|^2 of every seed; of nets of 1x1 kernels over its mean over all networks.

    u is a unit vector at one pixel. Nets of 1x1 kernels have one pixel, but for the three that the
    stride drops.
    """
    model = network(net)
    side = 2 if net in ONE_PIXEL else 32
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.standard_normal((1, side, side, 3), np.float32))
    direction = rng.standard_normal(3).astype(np.float32)
    place = side // 2 if net in REAL else 0
    u = jnp.zeros_like(image).at[0, place, place].set(direction / np.linalg.norm(direction))
    conv_end = f"pool{len(model.conv_stages)}"

    @jax.jit
    def gains(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        variables = model.init(key, image)

        def ends(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, endpoints = model.apply(variables, x)
            return endpoints[conv_end], logits

        moved = pushforward(ends, image)(u)
        return log_squared_norm(moved[0]), log_squared_norm(moved[1])

    # He's variance is 2 / inputs: a ReLU layer of n outputs and m inputs has a mean factor n / m.
    mean_gains = {"convolutions": widths(net)[-1] / 3, "logits": 2 * CLASSES / 3}
    rows = []
    for seed in range(seeds):
        for end, value in zip(ENDS, gains(stream_key(seed, "params")), strict=True):
            centre = np.log(mean_gains[end]) if net in ONE_PIXEL else 0.0
            rows.append({"net": net, "end": end, "seed": seed, "value": float(value) - centre})
    return rows
