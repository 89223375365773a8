"""Measures the cells: networks at initialisation, on batches drawn anew for every seed."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.base import vgg
from experiments.init_gradients.grid import IMAGE_SIZES, WIDE_STAGES, Cell
from vgg_jax.data.augment import make_eval_transform
from vgg_jax.data.pipeline import TrainPipeline
from vgg_jax.data.sources import Source, open_source
from vgg_jax.models import VGG
from vgg_jax.models.initializers import lsuv
from vgg_jax.models.vgg import ACTIVATIONS
from vgg_jax.probes.gradients import Arrays, Measured, layer_statistics
from vgg_jax.random_streams import stream_key
from vgg_jax.reporting.tables import tidy_rows

CLASSES = 10
QUANTITIES = (
    "activation_grad_rms",
    "weight_grad_norm",
    "param_norm",
    "preactivation_rms",
    "preactivation_mean",
    "saturation_fraction",
    "dead_fraction",
)

Variables = dict[str, Any]
Batch = tuple[jax.Array, jax.Array]


def measure_cell(cell: Cell, seeds: Iterable[int], data_dir: str | None) -> list[dict[str, Any]]:
    """Returns the tidy rows of a cell.

    Args:
      cell: what to measure.
      seeds: of the weights, the examples and the noise.
      data_dir: .npz file of the real images; None for cells of noise and of digits.
    """
    model = network(cell)
    measure = compiled_probe(model.clone(kernel_init="he_fan_in"))  # whichever made the parameters
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
        chosen = {quantity: measured[quantity] for quantity in QUANTITIES}
        rows += tidy_rows(chosen, model.layer_names, **columns)
    return rows


def network(cell: Cell) -> VGG:
    """Returns the network at its true width, with no hidden layer in its head."""
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
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), endpoints

    return loss_fn


@functools.lru_cache(maxsize=2)
def compiled_probe(model: VGG) -> Callable[[Variables, jax.Array, jax.Array], Measured]:
    """Returns the jitted (variables, images, labels) -> measured quantities."""

    @jax.jit
    def measure(variables: Variables, images: jax.Array, labels: jax.Array) -> Measured:
        loss_fn = loss_of(model, variables.get("batch_stats", {}), (images, labels))
        activation = ACTIVATIONS[model.activation]
        measured, loss = layer_statistics(
            loss_fn, variables["params"], model.preactivations, activation
        )
        return measured | {"loss": {"all": loss}}

    return measure


def initialized(model: VGG, seed: int, images: jax.Array) -> Variables:
    """Returns the variables of a seed; those of LSUV look at the images."""
    variables = _compiled_init(model)(stream_key(seed, "params"), images[:1])
    return lsuv(model, variables, images)[0] if model.kernel_init == "lsuv" else variables


@functools.lru_cache(maxsize=8)
def _compiled_init(model: VGG) -> Callable[[jax.Array, jax.Array], Variables]:
    # Drawing the parameters is no heavy program: let a CPU's compiler be quick about it.
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    return jax.jit(model.init, compiler_options=options)


def draw_batch(data: str, batch_size: int, seed: int, data_dir: str | None) -> Batch:
    """Returns float32 images (N, H, W, 3) of mean 0 and variance about 1, and labels (N,)."""
    return draw_batches(data, batch_size, seed, data_dir, 1)[0]


def draw_batches(
    data: str, batch_size: int, seed: int, data_dir: str | None, count: int
) -> list[Batch]:
    """Returns `count` such batches: of real images, the first steps of an epoch."""
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
    shape = (batch_size, IMAGE_SIZES[data], IMAGE_SIZES[data], 3)
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
