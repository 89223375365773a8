"""What every key of a config may be, and which keys must fit together.

The one place where a config is checked, whether it comes from `configs/` or from a run directory,
before anything is read, compiled or written. Defaults are in `configs/base.py`.
"""

import difflib
from collections.abc import Iterator

from ml_collections import ConfigDict

from vgg_jax.config import flatten
from vgg_jax.data.augment import AUGMENTATIONS, COLOR_PCAS
from vgg_jax.data.pipeline import ON_ERROR
from vgg_jax.data.preprocessing import CHANNEL_ORDERS, MAX_SIDE
from vgg_jax.data.sources import SOURCES
from vgg_jax.errors import UserError, quoted
from vgg_jax.models import COMPUTE_DTYPES, MODEL_KEYS, build_model
from vgg_jax.models.domains import (
    Domain,
    Each,
    Flag,
    Number,
    OneOf,
    Pair,
    Pattern,
    Text,
    Unset,
    Whole,
)
from vgg_jax.models.fields import FIELDS, MATMUL_PRECISIONS
from vgg_jax.training.optimizers import OPTIMIZERS, SCHEDULES
from vgg_jax.training.parallel import MODES
from vgg_jax.training.trackers import TRACKERS

_LISTED = 8  # problems told at once

_patterns = Each(Pattern())
_interval = Whole(0)
_share = Number(0, 1, open_high=True)

DOMAINS: dict[str, Domain] = {
    "seed": Whole(0, 2**32 - 1),
    "epochs": Number(0, open_low=True),
    "steps": Unset(Whole(1)),
    "compute_dtype": OneOf(COMPUTE_DTYPES),
    "matmul_precision": OneOf(MATMUL_PRECISIONS),
    "check_memory": Flag(),
    "deterministic": Flag(),
    **{f"model.{key}": FIELDS[key] for key in MODEL_KEYS},
    "model.num_classes": Unset(FIELDS["num_classes"]),  # as many as the data has
    "init.weights": Unset(Text()),
    "init.fresh": _patterns,
    "data.source": OneOf(SOURCES),
    "data.name": Text(),
    "data.dir": Unset(Text()),
    "data.train_split": Text(shortest=0),  # none: the folder itself
    "data.eval_split": Text(shortest=0),
    "data.image_size": Whole(1, MAX_SIDE),
    "data.batch_size": Whole(1),
    "data.workers": Whole(0, 1024),
    "data.on_error": OneOf(ON_ERROR),
    "data.channel_order": OneOf(CHANNEL_ORDERS),
    "data.mean": Each(Number(), shortest=3, longest=3),
    "data.std": Each(Number(1e-3), shortest=3, longest=3),
    "data.augment": OneOf(AUGMENTATIONS),
    "data.pad": Whole(0),
    "data.scale": Each(Whole(1, MAX_SIDE), shortest=2, longest=2),
    "data.flip": Flag(),
    "data.cutout": Whole(0),
    "data.color_shift": Number(0),
    "data.color_pca": OneOf(COLOR_PCAS),
    "data.eval_resize": Whole(1, MAX_SIDE),
    "optimizer.name": OneOf(OPTIMIZERS),
    "optimizer.learning_rate": Number(0),
    "optimizer.momentum": _share,
    "optimizer.nesterov": Flag(),
    "optimizer.weight_decay": Number(0),
    "optimizer.decay_on": _patterns,
    "optimizer.rates": Each(Pair(Pattern(), Number(0))),
    "optimizer.frozen": _patterns,
    "optimizer.schedule": OneOf(SCHEDULES),
    "optimizer.warmup_epochs": Number(0),
    "optimizer.decay_factor": Number(0, open_low=True),
    "optimizer.decay_epochs": Each(Number(0, open_low=True)),
    "optimizer.plateau_patience": Whole(1),
    "optimizer.plateau_drops": Whole(0),
    "optimizer.label_smoothing": _share,
    "optimizer.clip_norm": Number(0),
    "optimizer.accumulate": Whole(1),
    "optimizer.ema": _share,
    "eval.every_steps": _interval,
    "eval.batch_size": Whole(1),
    "checkpoint.every_steps": Whole(1),
    "checkpoint.keep": Whole(1),
    "log.every_steps": Whole(1),
    "log.stuck_after_steps": _interval,
    "log.trackers": Each(OneOf(TRACKERS)),
    "probe.every_steps": _interval,
    "parallel.mode": OneOf(MODES),
    "parallel.model": Whole(1),
    "parallel.shard_optimizer": Flag(),
    "parallel.steps_per_dispatch": Whole(1),
}


def check_config(config: ConfigDict) -> None:
    """Checks all keys of a config.

    Raises:
      UserError: keys are missing or unknown, values are outside their domains, or do not fit
        together: up to eight problems at once, a line each.
    """
    problems = list(_outside(config)) or list(_contradictions(config))
    if not problems:
        return
    lines = problems[:_LISTED]
    if len(problems) > _LISTED:
        lines.append(f"and {len(problems) - _LISTED} more")
    if len(problems) > 1:
        lines.insert(0, f"the config has {len(problems)} problems:")
    raise UserError("\n".join(lines))


def _outside(config: ConfigDict) -> Iterator[str]:
    values = flatten(config)
    for key, value in values.items():
        if key not in DOMAINS:
            near = difflib.get_close_matches(key, DOMAINS, n=1)
            yield f"config.{key}: no such key" + (f"; did you mean {near[0]}?" if near else "")
            continue
        complaint = DOMAINS[key].complaint(value)
        if complaint is not None:
            yield f"config.{key}={quoted(value)}: {complaint}"
    missing = [key for key in DOMAINS if key not in values]
    if len(missing) > _LISTED:
        yield (
            f"config has no {', '.join(missing[:3])} and {len(missing) - 3} other keys; change "
            "what base() of vgg_jax.configs.base returns, which has all"
        )
        return
    for key in missing:
        yield f"config.{key} is missing"


def _contradictions(config: ConfigDict) -> Iterator[str]:
    for check in (_network, _crops, _lengths):
        yield from check(config)


def _network(config: ConfigDict) -> Iterator[str]:
    try:
        build_model(config.model, image_size=config.data.image_size)
    except UserError as error:
        yield str(error)


def _crops(config: ConfigDict) -> Iterator[str]:
    data = config.data
    if data.augment == "scale_crop" and not data.image_size <= data.scale[0] <= data.scale[1]:
        yield (
            f"config.data.scale={tuple(data.scale)}: must be a range (S_min, S_max) of the "
            f"shortest side, at least data.image_size={data.image_size}"
        )
    if data.augment == "pad_crop" and data.pad > data.image_size:
        yield f"config.data.pad={data.pad}: must be at most data.image_size={data.image_size}"
    if data.cutout > data.image_size:
        yield f"config.data.cutout={data.cutout}: must be at most data.image_size={data.image_size}"


def _lengths(config: ConfigDict) -> Iterator[str]:
    optimizer = config.optimizer
    if config.steps is None and optimizer.warmup_epochs > config.epochs:
        yield (
            f"config.optimizer.warmup_epochs={optimizer.warmup_epochs}: must be at most "
            f"epochs={config.epochs}"
        )
    if optimizer.schedule == "plateau" and not config.eval.every_steps:
        yield (
            "config.eval.every_steps=0: optimizer.schedule=plateau follows the validation error, "
            "so it must be above 0"
        )
