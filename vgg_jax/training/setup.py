"""From a config to everything that a run consists of."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vgg_jax.config import with_classes
from vgg_jax.data.augment import make_eval_transform, make_train_augment
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline
from vgg_jax.data.source import Source
from vgg_jax.data.sources import check_labels, fingerprint, open_source
from vgg_jax.errors import UserError
from vgg_jax.models import VGG, build_model
from vgg_jax.models.lsuv import lsuv
from vgg_jax.training.config_check import check_config
from vgg_jax.training.feed import Feed, batch_feed, index_feed
from vgg_jax.training.memory import check_memory
from vgg_jax.training.optimizers import frozen_mask, make_optimizer, make_schedule, stop_frozen
from vgg_jax.training.parallel import Parallel, make_parallel
from vgg_jax.training.pretrained import check_pretrained, with_pretrained
from vgg_jax.training.state import TrainState, init_variables, new_state
from vgg_jax.training.steps import (
    Augment,
    EvalStep,
    Metrics,
    TrainLoss,
    augmented,
    make_eval_step,
    make_train_step,
)
from vgg_jax.training.trackers import check_installed


class Parts(NamedTuple):
    """What a config says without its data.

    Attributes:
      model: the network, outside of any mapped axis.
      optimizer: its optimiser.
      init_fn: returns the state before the first step; pure.
    """

    model: VGG
    optimizer: optax.GradientTransformation
    init_fn: Callable[[], TrainState]


def from_config(config: ConfigDict, schedule: optax.Schedule | None = None) -> Parts:
    """Returns the parts that training, restoring and converting share.

    Args:
      config: as from `configs/`.
      schedule: step -> learning rate. It has no part in the shapes of the state: without one the
        optimiser is good for restoring, not for training.

    Raises:
      UserError: a value that `check_config` refuses, or a pattern of `optimizer.frozen` that
        matches nothing.
    """
    check_config(config)
    image_size = config.data.image_size
    model = build_model(
        config.model,
        image_size=image_size,
        compute_dtype=config.compute_dtype,
        matmul_precision=config.matmul_precision,
    )
    optimizer = make_optimizer(config.optimizer, schedule or optax.constant_schedule(0.0))

    drawn = model  # what is frozen has no part in drawing

    def init_fn() -> TrainState:
        variables = init_variables(drawn, config.seed, image_size)
        return new_state(variables, optimizer, with_ema=config.optimizer.ema > 0)

    if config.optimizer.frozen:
        params = jax.eval_shape(init_fn).params
        model = model.clone(norm_frozen=_frozen_norms(params, config.optimizer))
    return Parts(model, optimizer, init_fn)


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run, as its config describes them.

    Attributes:
      config: the one it was built from, with the number of classes of the data if it named none.
      data_classes: number of classes that the data names.
      model: the network, outside of any mapped axis.
      optimizer: its optimiser.
      init_fn: returns the state before the first step; pure.
      schedule: step -> learning rate, before the plateau rule.
      parallel: how the steps run on the devices.
      loss: what the steps minimise, outside of any mapped axis.
      feed: (start, stop) -> what to feed, and the steps made after it, for each dispatch.
      advance: compiled; (state, feed) -> (state, metrics); consumes the state. Metrics are those
        of one step, or of each of several, (k,).
      eval_step: compiled; (state, device batch) -> sums.
      augment: see `vgg_jax.data.augment`.
      train_data: batch by step.
      eval_data: every example once.
      total_steps: steps of the whole run.
      fingerprints: of the training and evaluation data, by split.
    """

    config: ConfigDict
    data_classes: int
    model: VGG
    optimizer: optax.GradientTransformation
    init_fn: Callable[[], TrainState]
    schedule: optax.Schedule
    parallel: Parallel
    loss: TrainLoss
    feed: Feed
    advance: Callable[[TrainState, Any], tuple[TrainState, Metrics]]
    eval_step: EvalStep
    augment: Augment
    train_data: TrainPipeline
    eval_data: EvalPipeline
    total_steps: int
    fingerprints: dict[str, str]


def build(config: ConfigDict, sources: tuple[Source, Source] | None = None) -> Run:
    """Builds a run.

    Data is opened after all other checks, but before those of the network's size if the config
    leaves the number of classes to the data.

    Args:
      config: as from `configs/`.
      sources: the training and evaluation data; None opens those that the config names.

    Raises:
      UserError: whatever in the config cannot be honoured.
    """
    check_config(config)
    check_installed(config.log.trackers)
    if config.model.num_classes is None:
        sources = sources or _open_sources(config)
        config = with_classes(config, _data_classes(sources))
    model, _, init_fn = from_config(config)
    parallel = make_parallel(
        config.parallel.mode,
        config.parallel.model,
        shard_optimizer=config.parallel.shard_optimizer,
    )
    _check_parallel(config, model, parallel)
    state = parallel.abstract(init_fn)  # a pattern that matches nothing shows now, too
    check_memory(config, model, state, parallel.devices)
    check_pretrained(config, model)

    sources = sources or _open_sources(config)
    train_source, eval_source = sources
    for source in sources:
        check_labels(source, config.model.num_classes)
    here = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    train_data = TrainPipeline(train_source, config.data, seed=config.seed, **here)
    eval_data = EvalPipeline(eval_source, config.data, batch_size=config.eval.batch_size, **here)

    per_epoch = train_data.batches_per_epoch
    total_steps = config.steps if config.steps is not None else round(config.epochs * per_epoch)
    if total_steps == 0:
        raise UserError(
            f"config.epochs={config.epochs:g} of {train_data.num_examples:,} images is less than "
            f"half a step of {config.data.batch_size:,}: raise config.epochs or lower "
            "config.data.batch_size"
        )
    schedule = make_schedule(config.optimizer, per_epoch, total_steps)
    model, optimizer, init_fn = from_config(config, schedule)
    loss = TrainLoss(
        model,
        config.seed,
        label_smoothing=config.optimizer.label_smoothing,
        accumulate=config.optimizer.accumulate,
        group=config.model.norm_group or 1,
        freeze=lambda params: stop_frozen(params, config.optimizer),
    )
    augment = make_train_augment(config.data, source=train_source)
    adapted, axis_name = parallel.adapted(model), parallel.axis_name
    train_step = make_train_step(
        dataclasses.replace(loss, model=adapted),
        optimizer,
        augment,
        ema=config.optimizer.ema,
        axis_name=axis_name,
    )
    transform = make_eval_transform(config.data)
    eval_step = make_eval_step(adapted, transform, axis_name=axis_name)
    several = config.parallel.steps_per_dispatch > 1
    if several:
        pauses = tuple(config[group].every_steps for group in ("eval", "checkpoint", "probe"))
        size = config.parallel.steps_per_dispatch
        feed = index_feed(train_data, parallel, size=size, pauses=pauses)
    else:
        feed = batch_feed(train_data, parallel)
    return Run(
        config=config,
        data_classes=_data_classes(sources),
        model=model,
        optimizer=optimizer,
        init_fn=init_fn,
        schedule=jax.jit(schedule),  # the host calls it too: one program, not one per operation
        parallel=parallel,
        loss=loss,
        feed=feed,
        advance=parallel.compile_train(train_step, several=several),
        eval_step=parallel.compile_eval(eval_step),
        augment=augment,
        train_data=train_data,
        eval_data=eval_data,
        total_steps=total_steps,
        fingerprints={
            config.data.train_split: fingerprint(train_source),
            config.data.eval_split: fingerprint(eval_source),
        },
    )


def _open_sources(config: ConfigDict) -> tuple[Source, Source]:
    data = config.data
    return open_source(data, data.train_split), open_source(data, data.eval_split)


def _data_classes(sources: tuple[Source, Source]) -> int:
    return max(len(source.class_names) for source in sources)


def first_state(run: Run, config: ConfigDict) -> TrainState:
    """Returns the state before the first step, on the devices.

    Initialisation "lsuv" looks at the images of that step, augmented as the step will.

    Raises:
      UserError: `config.init.weights` cannot be read any more.
    """
    state = run.parallel.init(run.init_fn)
    if config.init.weights is not None:
        return with_pretrained(state, config, run.model)
    if config.model.kernel_init != "lsuv":
        return state
    batch = run.parallel.put(run.train_data.batch(0))
    images = augmented(run.augment, config.seed, 0, batch)["image"]
    drawn = {"params": state.params, "batch_stats": state.batch_stats}
    variables, _ = lsuv(run.model, drawn, images)
    params = variables["params"]
    average = None if state.ema is None else jax.tree.map(jnp.copy, params)
    return state.replace(params=params, ema=average)


def _frozen_norms(params: Any, config: ConfigDict) -> tuple[str, ...]:
    """Returns the batch normalisations none of whose parameters is trained."""
    if not config.frozen:
        return ()
    frozen = frozen_mask(params, config)
    return tuple(
        layer for layer, leaves in frozen.items() if layer.startswith("bn") and all(leaves.values())
    )


def _check_parallel(config: ConfigDict, model: VGG, parallel: Parallel) -> None:
    """Raises UserError for what cannot be divided among the devices or the micro-batches."""
    split = config.parallel.model
    if split > 1 and all(features % split for features in model.head_layers.values()):
        raise UserError(
            f"parallel.model={split} divides none of the fully connected layers' widths, "
            f"{list(model.head_layers.values())}; set parallel.model=1"
        )
    accumulate, group = config.optimizer.accumulate, config.model.norm_group
    if accumulate > 1 and model.norm == "batch" and group is None:
        raise UserError(
            f"batch norm over the global batch and optimizer.accumulate={accumulate} exclude each "
            "other: a micro-batch is normalised before the next one is seen.\n"
            f"Set model.norm_group, e.g. {config.data.batch_size // parallel.devices // accumulate}"
        )
    micro = accumulate * (group or 1)
    for key, size, parts, why in (
        ("data.batch_size", config.data.batch_size, micro, ", micro-batches and norm groups"),
        ("eval.batch_size", config.eval.batch_size, 1, ""),
    ):
        parts *= parallel.devices
        if size % parts:
            lower = size // parts * parts
            near = f"{lower} or {lower + parts}" if lower else f"{parts}"
            raise UserError(
                f"{key}={size} cannot be divided among {parallel.devices} devices"
                f"{why if micro > 1 else ''} ({parts} parts); use {near}"
            )
