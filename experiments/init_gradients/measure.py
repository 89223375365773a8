"""Measures the cells: networks at initialisation, with a new batch for every seed."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from configs.base import vgg
from experiments.init_gradients.grid import IMAGE_CHANNELS, IMAGE_SIZES, WIDE_STAGES, Cell
from vgg_jax.data.augment import make_eval_transform
from vgg_jax.data.pipeline import TrainPipeline
from vgg_jax.data.source import Source
from vgg_jax.data.sources import open_source
from vgg_jax.models import VGG
from vgg_jax.models.fields import ACTIVATIONS, POOLINGS
from vgg_jax.models.initializers import GAINS
from vgg_jax.models.lsuv import lsuv
from vgg_jax.probes.gradients import Arrays, Measured, layer_statistics
from vgg_jax.rng import stream_key
from vgg_jax.runs.tables import tidy_rows
from vgg_jax.training.steps import cross_entropy
from vgg_jax.xla import DRAWING, on_cpu

CLASSES = 10
Variables = dict[str, Any]
Batch = tuple[jax.Array, jax.Array]


def measure_cell(
    cell: Cell, seeds: Iterable[int], data_dir: str | None, quantities: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Returns the tidy rows of a cell.

    Args:
      cell: the network and its images.
      seeds: of the weights, the examples and the noise.
      data_dir: .npz file of the real images; None for cells of noise and of digits.
      quantities: what to keep of each layer.
    """
    model = network(cell)
    # The program is the same whichever initialiser made the parameters.
    measure = compiled_probe(model.clone(kernel_init="he_fan_in"), quantities)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        images, labels = draw_batch(cell.data, cell.batch_size, seed, data_dir)
        measured = jax.device_get(measure(initialized(model, seed, images), images, labels))
        columns = {
            "net": cell.net,
            "init": cell.init,
            "norm": cell.norm,
            "activation": cell.activation,
            "pooling": cell.pooling,
            "data": cell.data,
            "batch_size": cell.batch_size,
            "seed": seed,
            "step": 0,
        }
        rows += tidy_rows(measured, model.layer_names, **columns)
    return rows


def network(cell: Cell) -> VGG:
    """Returns the network at full width, with no hidden layer in its head."""
    stages = WIDE_STAGES.get(cell.net)
    return VGG(
        variant=cell.net,
        stages=stages,
        num_classes=CLASSES,
        head="linear",
        head_window=1 if stages else IMAGE_SIZES.get(cell.data, 32) // 32,
        kernel_init=cell.init,
        norm=cell.norm,
        activation=cell.activation,
        pooling=cell.pooling,
    )


def loss_of(model: VGG, batch_stats: Any, batch: Batch) -> Callable[..., Any]:
    """Returns loss_fn(params, perturbations) -> (mean cross entropy, endpoints)."""
    images, labels = batch

    def loss_fn(params: Any, perturbations: Arrays) -> tuple[jax.Array, Arrays]:
        (logits, endpoints), _ = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            perturbations=perturbations,
            mutable=["batch_stats"],
        )
        return cross_entropy(logits, labels), endpoints

    return loss_fn


@functools.lru_cache(maxsize=len(ACTIVATIONS) * len(POOLINGS))
def compiled_probe(
    model: VGG, quantities: tuple[str, ...]
) -> Callable[[Variables, jax.Array, jax.Array], Measured]:
    """Returns the jitted (variables, images, labels) -> the quantities asked for.

    They are those of `layer_statistics`, and "loss", whose layer is "all".
    """

    @jax.jit
    def measure(variables: Variables, images: jax.Array, labels: jax.Array) -> Measured:
        loss_fn = loss_of(model, variables.get("batch_stats", {}), (images, labels))
        activation = ACTIVATIONS[model.activation]
        measured, loss = layer_statistics(
            loss_fn, variables["params"], model.preactivations, activation
        )
        measured |= {"loss": {"all": loss}}
        return {quantity: measured[quantity] for quantity in quantities}

    return measure


def initialized(model: VGG, seed: int, images: jax.Array) -> Variables:
    """Returns the variables of a seed; LSUV also needs the images."""
    # The weights depend on the activation only by its gain, and not at all on pooling.
    gain = GAINS[model.activation]
    activation = next(name for name in ACTIVATIONS if GAINS[name] == gain)
    variables = _drawn(model.clone(activation=activation, pooling="none"), seed, images.shape[1:])
    return lsuv(model, variables, images)[0] if model.kernel_init == "lsuv" else variables


@functools.lru_cache(maxsize=10)  # as many as seeds: cells one after the other start from the same
def _drawn(model: VGG, seed: int, image_shape: tuple[int, ...]) -> Variables:
    return _compiled_init(model)(stream_key(seed, "params"), jnp.zeros((1, *image_shape)))


@functools.lru_cache(maxsize=8)
def _compiled_init(model: VGG) -> Callable[[jax.Array, jax.Array], Variables]:
    return jax.jit(model.init, compiler_options=on_cpu(DRAWING))


def draw_batch(data: str, batch_size: int, seed: int, data_dir: str | None) -> Batch:
    """Returns float32 images (N, H, W, C) of mean 0 and variance about 1, and labels (N,)."""
    return draw_batches(data, batch_size, seed, data_dir, 1)[0]


def draw_batches(
    data: str, batch_size: int, seed: int, data_dir: str | None, count: int
) -> list[Batch]:
    """Returns `count` such batches; of real images, those of an epoch's first steps."""
    if data not in IMAGE_SIZES:
        config = vgg("D", data).data
        if data_dir is not None:
            config.source, config.dir = "npz", data_dir
        config.batch_size, config.augment = batch_size, "none"
        pipeline = TrainPipeline(_source(data, data_dir), config, seed=seed)
        normalize = make_eval_transform(config)
        batches = map(pipeline.batch, range(count))
        return [(normalize(b["image"]), jnp.asarray(b["label"])) for b in batches]
    rng = np.random.default_rng(seed)
    shape = (batch_size, IMAGE_SIZES[data], IMAGE_SIZES[data], IMAGE_CHANNELS.get(data, 3))
    return [
        (
            jnp.asarray(rng.standard_normal(shape, np.float32)),
            jnp.asarray(rng.integers(0, CLASSES, batch_size)),
        )
        for _ in range(count)
    ]


@functools.cache
def _source(name: str, data_dir: str | None) -> Source:
    config = vgg("D", name).data
    if data_dir is not None:
        config.source, config.dir = "npz", data_dir
    return open_source(config, "train")
