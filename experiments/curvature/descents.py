"""Full-batch descents of a small net on squared error, with the curvature along them."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from configs.base import vgg
from experiments.init_gradients.grid import real_images
from vgg_jax.data.augment import make_eval_transform
from vgg_jax.data.pipeline import TrainPipeline
from vgg_jax.data.sources import open_source
from vgg_jax.models import VGG
from vgg_jax.probes.curvature import Eigenpair, hessian_trace, largest_eigenvalue
from vgg_jax.probes.landscape import global_norm
from vgg_jax.rng import stream_key

MOMENTUM = 0.9
# Sharpness at which a step of size 1 is no longer stable on a quadratic function (Cohen et al.
# 2021, appendix B), with momentum as optax has it: velocity = m * velocity + gradient.
STABLE = {
    "gradient descent": 2.0,
    "heavy ball": 2 * (1 + MOMENTUM),
    "Nesterov": 2 * (1 + MOMENTUM) / (1 + 2 * MOMENTUM),
}
FIRST_ITERATIONS, ITERATIONS = 40, 12  # of Lanczos; later ones start from the eigenvector before
TRACE_SAMPLES = 10
SCALES = (0.5, 1.0, 2.0, 4.0)
GUESSING = 0.45  # the loss of answering every image with the classes' frequencies
TRAINS = 0.9  # a rate trains if the loss ends below this share of guessing
HEAD = 0.1  # times He's start, so that the first loss is near guessing

Params = Any
Data = tuple[jax.Array, jax.Array]
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is measured.

    Attributes:
      nets: names or stages.
      width: of nets by name.
      image_size: pixels.
      images: all of them are every step's batch.
      seeds: number of them.
      steps: of a descent.
      every: steps between two measurements of the sharpness; the trace is measured at each
        quarter of a descent.
      thresholds: sharpness at which a descent is no longer stable, over the one at its start.
      rate_steps: steps after which a rate counts as one that trains.
      factors: rates that are tried, times 1 / sharpness at the start.
    """

    nets: tuple[str | tuple[str, ...], ...]
    width: float
    image_size: int
    images: int
    seeds: int
    steps: int
    every: int
    thresholds: tuple[float, ...]
    rate_steps: int
    factors: tuple[float, ...]


FACTORS = tuple(float(2 ** (n / 2)) for n in range(15))  # 1 to 128
PRESETS = {
    "quick": Preset((("3-8", "3-16"),), 1.0, 8, 128, 3, 800, 40, (1.0,), 60, FACTORS),
    "full": Preset(("A", "D"), 1 / 8, 32, 256, 3, 600, 30, (1.0,), 200, FACTORS),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """A net, its start and its images.

    Attributes:
      model: the net.
      params: at the start.
      data: images (N, H, W, 3) and one-hot labels (N, 10).
    """

    model: VGG
    params: Params
    data: Data

    @functools.cached_property
    def sharpness(self) -> Eigenpair:
        """At the start."""
        start = normal_like(self.params)
        return programs(self.model).sharpness(self.params, self.data, start, FIRST_ITERATIONS)


class Programs(NamedTuple):
    """What is compiled once per net.

    Attributes:
      init: (key, images) -> variables at the start.
      loss: (params, data) -> half the mean squared distance of the logits from one-hot labels.
      accuracy: (params, data) -> share of these images, classified by their batch's statistics.
      sharpness: (params, data, start, iterations) -> `Eigenpair`.
      trace: (params, data, key) -> estimate and standard error.
      kernel: (kernel, params, data, layer) -> (largest eigenvalue, gradient) of one kernel alone.
      steps: by optimiser, (params, optimiser's state, rate, data) -> (params, state, loss).
    """

    init: Callable[..., Params]
    loss: Callable[..., jax.Array]
    accuracy: Callable[..., jax.Array]
    sharpness: Callable[..., Eigenpair]
    trace: Callable[..., Any]
    kernel: Callable[..., Any]
    steps: dict[str, Callable[..., Any]]


def problem(
    net: str | tuple[str, ...], norm: str, seed: int, preset: Preset, data_dir: str | None
) -> Problem:
    """Returns a net with batch norm or without, on the first images of a seed's epoch."""
    images, labels = _data(preset, seed, data_dir)
    stages = None if isinstance(net, str) else net
    model = VGG(
        variant=net if isinstance(net, str) else "D",
        stages=stages,
        num_classes=10,
        head="linear",
        head_window=preset.image_size // 2 ** len(stages or range(5)),
        norm=norm,
        width=preset.width,
    )
    params = programs(model).init(stream_key(seed, "params"), images[:1])["params"]
    head = params["fc8"] | {"kernel": HEAD * params["fc8"]["kernel"]}
    return Problem(model, params | {"fc8": head}, (images, jax.nn.one_hot(labels, 10)))


@functools.cache
def programs(model: VGG) -> Programs:
    """Compiles what a net needs."""

    def logits_of(params: Params, images: jax.Array) -> jax.Array:
        # Statistics of the batch are used; the running ones are neither read nor kept.
        stats = jax.eval_shape(lambda: model.init(jax.random.key(0), images))
        unused = jax.tree.map(lambda x: jnp.zeros(x.shape), stats.get("batch_stats", {}))
        variables = {"params": params, "batch_stats": unused}
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[0][0]

    def loss(params: Params, data: Data) -> jax.Array:
        images, targets = data
        distances = jnp.sum(jnp.square(logits_of(params, images) - targets), axis=-1)
        return jnp.mean(distances) / 2

    def accuracy(params: Params, data: Data) -> jax.Array:
        images, targets = data
        return jnp.mean(jnp.argmax(logits_of(params, images), -1) == jnp.argmax(targets, -1))

    @functools.partial(jax.jit, static_argnames="iterations")
    def sharpness(params: Params, data: Data, start: Params, iterations: int) -> Eigenpair:
        return largest_eigenvalue(lambda p: loss(p, data), params, start, iterations)

    @jax.jit
    def trace(params: Params, data: Data, key: jax.Array) -> Any:
        return hessian_trace(lambda p: loss(p, data), params, key, TRACE_SAMPLES)

    @functools.partial(jax.jit, static_argnames="layer")
    def kernel(kernel: jax.Array, params: Params, data: Data, layer: str) -> Any:
        def of_kernel(kernel: jax.Array) -> jax.Array:
            return loss(params | {layer: params[layer] | {"kernel": kernel}}, data)

        start = normal_like(kernel)
        found = largest_eigenvalue(of_kernel, kernel, start, FIRST_ITERATIONS)
        return found.value, jax.grad(of_kernel)(kernel)

    def stepper(name: str) -> Callable[..., Any]:
        def step(params: Params, opt_state: Any, rate: jax.Array, data: Data) -> Any:
            value, gradient = jax.value_and_grad(loss)(params, data)
            updates, opt_state = optimizer(name).update(gradient, opt_state)
            params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
            return params, opt_state, value

        return jax.jit(step)

    steps = {name: stepper(name) for name in STABLE}
    init = jax.jit(model.init)
    return Programs(init, jax.jit(loss), jax.jit(accuracy), sharpness, trace, kernel, steps)


def edge_rows(of: Problem, preset: Preset, name: str, threshold: float) -> Iterator[Row]:
    """Descends at the rate whose limit is a multiple of the sharpness at the start.

    Args:
      of: where to start.
      preset: how long, and how often to measure.
      name: of the optimiser.
      threshold: limit over sharpness at the start. The limit is the sharpness at which a
        quadratic function is no longer stable.

    Yields:
      {"rate", "limit", "step", "quantity", "value"}: sharpness, trace, loss, accuracy and the norm
      of the parameters along the descent, until its loss is not finite.
    """
    run, data = programs(of.model), of.data
    found = of.sharpness
    limit = threshold * float(found.value)
    rate = STABLE[name] / limit
    params, opt_state = of.params, optimizer(name).init(of.params)
    for done in range(preset.steps + 1):
        if done % preset.every == 0:
            loss = float(run.loss(params, data))
            if not math.isfinite(loss):
                break
            if done:
                found = run.sharpness(params, data, found.vector, ITERATIONS)
            measured = {
                "sharpness": found.value,
                "residual": found.residual,
                "loss": loss,
                "accuracy": run.accuracy(params, data),
                "norm": global_norm(params),
            }
            if done % (preset.steps // 4) == 0:
                measured["trace"] = run.trace(params, data, stream_key(0, "signs", done))[0]
            for quantity, value in measured.items():
                constants = {"rate": rate, "limit": limit, "step": done}
                yield constants | {"quantity": quantity, "value": float(value)}
        params, opt_state, _ = run.steps[name](params, opt_state, rate, data)


def rate_rows(of: Problem, preset: Preset) -> Iterator[Row]:
    """Tries gradient descent at growing rates, until one fails after one that trained.

    Yields:
      {"factor", "rate", "loss", "trains"}: rate times sharpness at the start, the rate, the last
      loss, and whether it trains.
    """
    run, data = programs(of.model), of.data
    name = "gradient descent"
    trained = False
    for factor in preset.factors:
        params, state = of.params, optimizer(name).init(of.params)
        rate = factor / float(of.sharpness.value)
        for _ in range(preset.rate_steps):
            params, state, _ = run.steps[name](params, state, rate, data)
        loss = float(run.loss(params, data))
        trains = math.isfinite(loss) and loss < TRAINS * GUESSING
        yield {"factor": factor, "rate": rate, "loss": loss, "trains": int(trains)}
        if trained and not trains:
            return
        trained |= trains


def scale_rows(of: Problem) -> Iterator[Row]:
    """Multiplies the kernel of the second convolution by numbers; measures its own curvature.

    Yields:
      {"scale", "sharpness", "gradient", "cosine"}: of this kernel W alone: the largest eigenvalue
      times |W|^2, |gradient| times |W|, and the cosine of gradient and W.
    """
    layer = [name for name in of.params if name.startswith("conv")][1]
    for scale in SCALES:
        kernel = of.params[layer]["kernel"] * scale
        value, gradient = programs(of.model).kernel(kernel, of.params, of.data, layer)
        norm, length = jnp.linalg.norm(kernel), jnp.linalg.norm(gradient)
        yield {
            "scale": scale,
            "sharpness": float(value * norm**2),
            "gradient": float(length * norm),
            "cosine": float(jnp.vdot(gradient, kernel) / (length * norm)),
        }


def optimizer(name: str) -> optax.GradientTransformation:
    """Returns the direction of a step; the rate multiplies it."""
    if name == "gradient descent":
        return optax.identity()
    return optax.trace(MOMENTUM, nesterov=name == "Nesterov")


def normal_like(tree: Any) -> Any:
    """Returns a tree of standard normal numbers, the same at every call."""
    flat, unravel = ravel_pytree(tree)
    return unravel(jax.random.normal(jax.random.key(0), flat.shape, flat.dtype))


def _data(preset: Preset, seed: int, data_dir: str | None) -> tuple[jax.Array, jax.Array]:
    config = vgg("D", real_images(data_dir)).data
    if data_dir is not None:
        config.source, config.dir = "npz", data_dir
    config.batch_size, config.augment = preset.images, "none"
    config.image_size = preset.image_size
    batch = TrainPipeline(open_source(config, "train"), config, seed=seed).batch(0)
    images = make_eval_transform(config)(batch["image"])
    return jnp.asarray(images), jnp.asarray(np.asarray(batch["label"]))
