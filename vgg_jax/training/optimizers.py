"""Optimisers and learning-rate schedules by name, and the paper's plateau rule."""

import dataclasses
import re
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from vgg_jax.errors import UserError, unknown_name

PyTree = Any

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "step", "cosine", "plateau")


def make_schedule(config: ConfigDict, steps_per_epoch: float, total_steps: int) -> optax.Schedule:
    """Returns step -> learning rate for `config.optimizer`.

    The plateau schedule is constant here: its drops come from `Plateau`, on the host.

    Raises:
      UserError: for an unknown schedule.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    rate = config.learning_rate
    if config.schedule in ("constant", "plateau"):
        main = optax.constant_schedule(rate)
    elif config.schedule == "step":
        boundaries = [round(e * steps_per_epoch) - warmup for e in config.decay_epochs]
        main = optax.piecewise_constant_schedule(
            rate, dict.fromkeys(boundaries, config.decay_factor)
        )
    elif config.schedule == "cosine":
        main = optax.cosine_decay_schedule(rate, max(1, total_steps - warmup))
    else:
        raise unknown_name("optimizer.schedule", config.schedule, SCHEDULES)
    if not warmup:
        return main
    # The first step already moves: a rate of exactly zero would waste it.
    ramp = optax.linear_schedule(rate / warmup, rate, warmup - 1 or 1)
    return optax.join_schedules([ramp, main], [warmup])


def make_optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns the optimiser of `config.optimizer`.

    SGD adds L2 decay to the gradient before the momentum, as the paper does (section 3.1);
    AdamW's decay is decoupled. The last link of either chain scales the update by a factor that
    the host may change between steps (`set_rate_factor`).

    Raises:
      UserError: for an unknown optimiser.
    """

    def mask(params: PyTree) -> PyTree:
        return decay_mask(params, config.decay_on)

    links = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    if config.name == "sgd":
        if config.weight_decay:
            links.append(optax.add_decayed_weights(config.weight_decay, mask))
        if config.momentum:
            links.append(optax.trace(config.momentum, config.nesterov))
    elif config.name == "adamw":
        links.append(optax.scale_by_adam(b1=config.momentum, nesterov=config.nesterov))
        if config.weight_decay:
            links.append(optax.add_decayed_weights(config.weight_decay, mask))
    else:
        raise unknown_name("optimizer.name", config.name, OPTIMIZERS)
    links.append(optax.scale_by_learning_rate(schedule))
    links.append(optax.inject_hyperparams(optax.scale)(step_size=1.0))
    return optax.chain(*links)


def decay_mask(params: PyTree, patterns: tuple[str, ...]) -> PyTree:
    """Returns a tree of bools: whether each parameter's name matches any pattern in full.

    Raises:
      UserError: for a pattern that matches nothing, so that a misspelt one is not silently idle.
    """

    def name(path: tuple[Any, ...]) -> str:
        return jax.tree_util.keystr(path, simple=True, separator="/")

    names = [name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    for pattern in patterns:
        if not any(re.fullmatch(pattern, n) for n in names):
            raise UserError(
                f"optimizer.decay_on has {pattern!r}, which matches no parameter; "
                f"names look like {names[0]!r} and {names[-1]!r}"
            )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(re.fullmatch(p, name(path)) for p in patterns), params
    )


def set_rate_factor(opt_state: PyTree, factor: float) -> PyTree:
    """Returns the optimiser state with the host's learning-rate factor replaced."""
    old = optax.tree.get(opt_state, "step_size")
    # On the devices that held the old value, so that the step is not compiled again.
    new = jax.device_put(jax.numpy.full(old.shape, factor, old.dtype), old.sharding)
    return optax.tree.set(opt_state, step_size=new)


@dataclasses.dataclass
class Plateau:
    """Divides the learning rate when the validation error stops falling (paper, section 3.1).

    Lives on the host and counts evaluations; `dataclasses.asdict` of it goes into the checkpoint.

    Attributes:
      decay: factor of one drop.
      patience: evaluations in a row without a new lowest error before a drop.
      max_drops: drops after which the rate stays.
      best: lowest error seen.
      waited: evaluations since then, or since the last drop.
      drops: drops made.
    """

    decay: float
    patience: int
    max_drops: int
    best: float = float("inf")
    waited: int = 0
    drops: int = 0

    def observe(self, error: float) -> bool:
        """Takes the error of one evaluation; returns whether the rate drops now."""
        if error < self.best:
            self.best, self.waited = error, 0
            return False
        self.waited += 1
        if self.waited < self.patience or self.drops == self.max_drops:
            return False
        self.waited, self.drops = 0, self.drops + 1
        return True

    @property
    def factor(self) -> float:
        """What the drops so far multiply the learning rate by."""
        return self.decay**self.drops
