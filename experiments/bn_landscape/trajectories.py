"""Trains net A with batch norm, without, and with noise behind it; measures the loss on the way."""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from configs.base import vgg
from experiments.init_gradients.grid import real_images
from experiments.init_gradients.measure import (
    Batch,
    Variables,
    draw_batches,
    initialized,
)
from vgg_jax.data.augment import make_eval_transform
from vgg_jax.data.pipeline import EvalPipeline
from vgg_jax.data.sources import open_source
from vgg_jax.models import VGG
from vgg_jax.models.layers import BatchNorm
from vgg_jax.probes.landscape import (
    along_gradient,
    filter_normalized,
    global_norm,
    loss_surface,
)
from vgg_jax.rng import stream_key
from vgg_jax.training.steps import cross_entropy

NORMS = ("none", "batch", "noisy")
# A walk against the gradient is as long as these multiples of the gradient (Santurkar et al. 2018
# as commonly stated: up to 0.4), or as these multiples of the norm of all parameters.
GRADIENT_STEPS = np.linspace(0.05, 0.4, 8)
RELATIVE_STEPS = np.geomspace(1e-4, 1e-1, 10)
UNITS = {
    "gradient": slice(None, len(GRADIENT_STEPS)),
    "relative": slice(len(GRADIENT_STEPS), None),
}
# Noise behind batch norm, drawn for every layer and step, as commonly stated of the paper's
# appendix: per channel a mean from +-0.5 and a factor from 1 to 1.25, then for each example 0.1.
NOISE_MEAN, NOISE_FACTOR, NOISE_EXAMPLE = 0.5, 1.25, 0.1
TEST_IMAGES = 2000


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is trained: every norm, rate and seed.

    Attributes:
      rates: learning rates of plain SGD.
      seeds: number of them.
      measured: steps before which the landscape is measured, the last one the end.
      width: of the net.
      batch_size: examples.
      grid: points along each side of the loss surface.
      surface_batch: examples of the loss surface.
    """

    rates: tuple[float, ...]
    seeds: int
    measured: tuple[int, ...]
    width: float
    batch_size: int
    grid: int
    surface_batch: int


PRESETS = {
    "quick": Preset((0.03, 0.3), 3, (0, 20, 60), 1 / 16, 64, 9, 64),
    "full": Preset((0.03, 0.1, 0.3), 3, (0, 10, 30, 60, 100, 200, 300), 1 / 8, 128, 21, 256),
}


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One training run."""

    norm: str
    learning_rate: float
    seed: int


def follow(
    trajectory: Trajectory, preset: Preset, data_dir: str | None
) -> tuple[Variables, list[dict[str, Any]]]:
    """Trains along a trajectory.

    Returns:
      The last variables, and tidy rows {norm, learning_rate, seed, step, quantity, value}: the
      landscape at the chosen steps, the loss of every step, the accuracy at the end. A run whose
      loss is not finite any more ends there.
    """
    norm, rate, seed = dataclasses.astuple(trajectory)
    model = network(norm, preset.width)
    batches = _batches(preset, seed, data_dir)
    variables = initialized(model, seed, batches[0][0])
    step_fn, measure_fn, score_fn = programs(model, norm)
    rows: list[dict[str, Any]] = []

    def add(step: int, **values: Any) -> None:
        rows.extend(
            {**dataclasses.asdict(trajectory), "step": step, "quantity": name, "value": float(v)}
            for name, v in values.items()
        )

    for step, batch in enumerate(batches):
        key = stream_key(seed, "noise", step)
        if step in preset.measured:
            add(step, **jax.device_get(measure_fn(variables, batch, key)))
        if step == preset.measured[-1]:
            break
        variables, loss = step_fn(variables, batch, key, rate)
        add(step, loss=loss)
        if not np.isfinite(float(loss)):
            break
    add(preset.measured[-1], accuracy=score_fn(variables, *_test_set(data_dir)))
    return variables, rows


def surface(
    trajectory: Trajectory, preset: Preset, data_dir: str | None
) -> Iterator[dict[str, Any]]:
    """Yields the loss around the end of a trajectory, on a plane of two random directions."""
    variables, _ = follow(trajectory, preset, data_dir)
    model = network(trajectory.norm, preset.width)
    (batch,) = draw_batches(
        real_images(data_dir), preset.surface_batch, trajectory.seed, data_dir, 1
    )
    params = variables["params"]
    keys = jax.random.split(stream_key(trajectory.seed, "directions"), 2)
    first, second = (filter_normalized(_normal_like(key, params), params) for key in keys)
    coordinates = np.linspace(-1, 1, preset.grid)
    loss = loss_of(model, "batch" if trajectory.norm == "noisy" else trajectory.norm)

    @jax.jit
    def plane(variables: Variables) -> jax.Array:
        return loss_surface(
            lambda p: loss(p, variables, batch, stream_key(0, "noise"))[0],
            variables["params"],
            (first, second),
            jnp.asarray(coordinates),
        )

    for (i, j), value in np.ndenumerate(np.asarray(plane(variables))):
        yield {
            "norm": trajectory.norm,
            "learning_rate": trajectory.learning_rate,
            "a": coordinates[i],
            "b": coordinates[j],
            "loss": float(value),
        }


def network(norm: str, width: float) -> VGG:
    """Returns net A for 32-pixel images and ten classes, without dropout."""
    return VGG(
        variant="A",
        num_classes=10,
        head="linear",
        head_window=1,
        norm="none" if norm == "none" else "batch",
        width=width,
    )


def loss_of(model: VGG, norm: str) -> Callable[..., tuple[jax.Array, Any]]:
    """Returns (params, variables, batch, key) -> (mean cross entropy, new running statistics)."""

    def loss_fn(params: Any, variables: Variables, batch: Batch, key: jax.Array) -> Any:
        images, labels = batch
        with nn.intercept_methods(_noise(key) if norm == "noisy" else _unchanged):
            (logits, _), updates = model.apply(
                variables | {"params": params}, images, train=True, mutable=["batch_stats"]
            )
        return cross_entropy(logits, labels), updates.get("batch_stats", {})

    return loss_fn


@functools.cache
def programs(model: VGG, norm: str) -> tuple[Callable[..., Any], ...]:
    """Returns the compiled training step, measurement and accuracy."""
    loss_fn = loss_of(model, norm)

    @jax.jit
    def step(variables: Variables, batch: Batch, key: jax.Array, rate: jax.Array) -> Any:
        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, batch_stats), grads = gradient(variables["params"], variables, batch, key)
        params = jax.tree.map(lambda p, g: p - rate * g, variables["params"], grads)
        return {"params": params, "batch_stats": batch_stats}, loss

    @jax.jit
    def measure(variables: Variables, batch: Batch, key: jax.Array) -> dict[str, jax.Array]:
        @jax.jit  # traced once, for all derivatives
        def loss(params: Any) -> jax.Array:
            return loss_fn(params, variables, batch, key)[0]  # one batch, one draw of the noise

        params = variables["params"]
        value, gradient = jax.value_and_grad(loss)(params)
        weights, length = global_norm(params), global_norm(gradient)
        measured = {"weight_norm": weights, "gradient_norm": length}
        distances = jnp.concatenate([GRADIENT_STEPS * length, RELATIVE_STEPS * weights])
        ray = along_gradient(loss, params, distances)
        for unit, part in UNITS.items():
            losses = jnp.append(ray.loss[part], value)
            measured |= {
                f"{unit}/variation": losses.max() - losses.min(),
                f"{unit}/gradient_change": ray.gradient_change[part].max(),
                f"{unit}/smoothness": ray.smoothness[part].max(),
            }
        # Neither changes if all weights in front of batch norm are multiplied by a number.
        measured["relative/gradient_change"] /= length
        measured["relative/smoothness"] *= weights**2
        return measured

    @jax.jit
    def score(variables: Variables, images: jax.Array, labels: jax.Array) -> jax.Array:
        logits, _ = model.apply(variables, images, train=False)
        return jnp.mean(jnp.argmax(logits, -1) == labels)

    return step, measure, score


def _noise(key: jax.Array) -> Callable[..., Any]:
    def interceptor(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        if not isinstance(context.module, BatchNorm):
            return y
        layer = zlib.crc32("/".join(context.module.path).encode())
        keys = jax.random.split(jax.random.fold_in(key, layer), 4)
        channels, each = y.shape[-1:], (y.shape[0], 1, 1, y.shape[-1])
        mean = jax.random.uniform(keys[0], channels, y.dtype, -NOISE_MEAN, NOISE_MEAN)
        factor = jax.random.uniform(keys[1], channels, y.dtype, 1, NOISE_FACTOR)
        mean = mean + jax.random.uniform(keys[2], each, y.dtype, -NOISE_EXAMPLE, NOISE_EXAMPLE)
        factor = factor + NOISE_EXAMPLE * jax.random.normal(keys[3], each, y.dtype)
        return factor * y + mean

    return interceptor


def _unchanged(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    return call(*args, **kwargs)


def _normal_like(key: jax.Array, tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


@functools.lru_cache(maxsize=1)  # of one seed, whose trajectories come one after the other
def _batches(preset: Preset, seed: int, data_dir: str | None) -> list[Batch]:
    count = preset.measured[-1] + 1
    return draw_batches(real_images(data_dir), preset.batch_size, seed, data_dir, count)


@functools.cache
def _test_set(data_dir: str | None) -> Batch:
    config = vgg("A", real_images(data_dir)).data
    if data_dir is not None:
        config.source, config.dir = "npz", data_dir
    source = open_source(config, config.eval_split)
    batch = EvalPipeline(source, config, batch_size=min(TEST_IMAGES, len(source))).batch(0)
    return make_eval_transform(config)(jnp.asarray(batch["image"])), jnp.asarray(batch["label"])
