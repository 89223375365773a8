"""Measures effective receptive fields: at initialisation, and of a VGG-19 trained on ImageNet."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.receptive_field.presets import STACKS, Preset
from vgg_jax.data.folder import FolderSource
from vgg_jax.models import VGG
from vgg_jax.models.summary import receptive_field, summarize_model
from vgg_jax.probes.receptive_field import (
    layer_windows,
    map_spread,
    predicted_magnitude_spread,
    predicted_spread,
    squared_gradient_map,
)
from vgg_jax.rng import stream_key
from vgg_jax.weights.store import Weights
from vgg_jax.xla import DRAWING, NETWORK, on_cpu

Row = dict[str, Any]
Probe = Callable[[Any, jax.Array, int], tuple[float, float]]


def last_convs(model: VGG) -> list[str]:
    """Returns the last convolution of each stage."""
    return [f"conv{s}_{len(stage)}" for s, stage in enumerate(model.conv_stages, 1)]


def theory(model: VGG, layer: str) -> Row:
    """Returns a layer's theoretical receptive field and what is predicted at the start, in pixels.

    The spread of the squared gradient and of its root.
    """
    windows = layer_windows(model.conv_stages)[layer]
    return {
        "field": receptive_field(windows),
        "predicted": predicted_spread(windows),
        "predicted_magnitude": predicted_magnitude_spread(windows),
    }


def canvas(model: VGG, layer: str) -> int:
    """Returns the side of the smallest image that holds what the centre unit of a layer sees."""
    stride = 2 ** len(model.conv_stages)
    # The centre of an even map lies half a position past the middle of the image.
    return -(-(theory(model, layer)["field"] + stride) // stride) * stride


def make_probe(model: VGG, layer: str) -> Probe:
    """Returns (variables, images, seed) -> spread of the squared gradient and of its root.

    Both in pixels, the mean of the two axes. The unit is the centre of the layer's output before
    normalisation and activation.
    """

    @functools.partial(jax.jit, compiler_options=on_cpu(NETWORK))
    def measure(variables: Any, images: jax.Array, seed: int) -> jax.Array:
        def forward(images: jax.Array) -> jax.Array:
            return model.apply(variables, images, conv_only=True)[1][layer]

        return squared_gradient_map(forward, images, stream_key(seed, "signs"))

    def probe(variables: Any, images: jax.Array, seed: int) -> tuple[float, float]:
        squared = np.asarray(measure(variables, images, seed))
        return float(np.mean(map_spread(squared))), float(np.mean(map_spread(np.sqrt(squared))))

    return probe


def stack_costs() -> list[Row]:
    """Returns kernel parameters and multiply-adds of each stack, per pair of channels and place.

    Counted from the shapes of a network in which a 1x1 convolution makes the channels that the
    stack starts from.
    """
    rows = []
    for side, stacks in STACKS.items():
        for stack in stacks:
            model = VGG(stages=(f"1-64, {stack}",), head="linear", head_window=8)
            layers = [
                layer
                for layer in summarize_model(model, 16).layers
                if layer.name.startswith("conv") and layer.name != "conv1_1"
            ]
            weights = sum(layer.parameters - layer.shape[-1] for layer in layers)
            places = 16 * 16
            rows.append(
                {
                    "field": side,
                    "stack": stack,
                    "layers": len(layers),
                    "parameters_over_c2": weights / 64**2,
                    "macs_over_c2": sum(layer.macs for layer in layers) / places / 64**2,
                }
            )
    return rows


def at_initialisation(preset: Preset) -> list[Row]:
    """Returns a row per stack or net, and seed: what theory says, and what is measured on noise."""
    models = {
        stack: VGG(stages=(f"1-64, {stack}",), head="linear", head_window=1)
        for stacks in STACKS.values()
        for stack in stacks
    }
    models |= {net: VGG(variant=net, width=preset.net_width, head="linear") for net in preset.nets}
    rows = []
    for name, model in models.items():
        layer = last_convs(model)[-1]
        side = canvas(model, layer)
        probe = make_probe(model, layer)
        draw = drawing(model, side)
        for seed in range(preset.seeds):
            key = stream_key(seed, "noise")
            images = jax.random.normal(key, (preset.images, side, side, 3))
            squared, magnitude = probe(draw(seed), images, seed)
            measured = {"squared": squared, "magnitude": magnitude}
            rows.append({"net": name, "layer": layer, "seed": seed} | theory(model, layer))
            rows[-1] |= measured
        print(f"{name}: {squared:.2f} pixels, predicted {rows[-1]['predicted']:.2f}", flush=True)
    return rows


def of_vgg19(weights: Weights, photos: FolderSource, preset: Preset) -> list[Row]:
    """Returns rows of VGG-19, last convolution of each stage, untrained and trained.

    Sample i has photos of its own, which an untrained network of seed i and the trained one see.
    """
    model = weights.model
    side = max(canvas(model, layer) for layer in last_convs(model))
    probes = {layer: make_probe(model, layer) for layer in last_convs(model)}
    draw = drawing(model, side)
    crop = dataclasses.replace(weights.preprocessing, resize=side, crop=side)
    rows = []
    for sample in range(preset.seeds):
        chosen = range(sample * preset.photos, (sample + 1) * preset.photos)
        images = crop.normalize(np.stack([crop.load(photos.path(index)) for index in chosen]))
        for state, variables in (("untrained", draw(sample)), ("trained", weights.variables)):
            for layer, probe in probes.items():
                squared, magnitude = probe(variables, images, sample)
                rows.append(
                    {"state": state, "layer": layer, "seed": sample}
                    | theory(model, layer)
                    | {"squared": squared, "magnitude": magnitude}
                )
                print(f"VGG-19 {state}, {layer}: {squared:.1f} pixels", flush=True)
    return rows


def mirrored(images: np.ndarray, side: int) -> np.ndarray:
    """Returns square images (N, H, H, 3) continued by their mirror images to `side`, if larger."""
    missing = max(0, side - images.shape[1])
    padding = (missing // 2, missing - missing // 2)
    return np.pad(images, ((0, 0), padding, padding, (0, 0)), mode="symmetric")


def drawing(model: VGG, side: int) -> Callable[[int], Mapping[str, Any]]:
    """Returns seed -> convolutions, drawn by the model's initialiser."""

    @functools.partial(jax.jit, compiler_options=on_cpu(DRAWING))
    def draw(seed: int) -> Mapping[str, Any]:
        image = jnp.zeros((1, side, side, 3))
        return model.init(stream_key(seed, "params"), image, conv_only=True)

    return draw
