"""Optimisers and learning-rate schedules by name, and the paper's plateau rule."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from vgg_jax.errors import UserError, unknown_name
from vgg_jax.training.param_filters import first_match, parameter_names, select

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
    the host may change between steps (`set_rate_factor`). Parameters that `frozen` matches have no
    part in it: neither decay nor state, and an update of zero.

    Raises:
      UserError: for an unknown optimiser; from `init`, for patterns that fit no parameter or leave
        none to train.
    """

    def mask(params: PyTree) -> PyTree:
        return select(params, config.decay_on, "optimizer.decay_on")

    links = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    decay = [optax.add_decayed_weights(config.weight_decay, mask)] if config.weight_decay else []
    if config.name == "sgd":
        links += decay
        if config.momentum:
            links.append(optax.trace(config.momentum, config.nesterov))
    elif config.name == "adamw":
        links += [optax.scale_by_adam(b1=config.momentum, nesterov=config.nesterov), *decay]
    else:
        raise unknown_name("optimizer.name", config.name, OPTIMIZERS)
    if config.rates:
        links.append(_scale_by_name(config.rates))
    links.append(optax.scale_by_learning_rate(schedule))
    links.append(optax.inject_hyperparams(optax.scale)(step_size=1.0))
    chain = optax.chain(*links)
    if not config.frozen:
        return chain

    def labels(params: PyTree) -> PyTree:
        frozen = frozen_mask(params, config)
        return jax.tree.map(lambda stays: "frozen" if stays else "trained", frozen)

    return optax.partition({"trained": chain, "frozen": optax.set_to_zero()}, labels)


def frozen_mask(params: PyTree, config: ConfigDict) -> PyTree:
    """Returns a tree of bools: which parameters `config.optimizer` keeps as they are.

    Raises:
      UserError: a pattern of `frozen` matches nothing, or all of them everything.
    """
    frozen = select(params, config.frozen, "optimizer.frozen")
    if all(jax.tree.leaves(frozen)):
        raise UserError(
            f"optimizer.frozen={tuple(config.frozen)!r} leaves no parameter to train: "
            "give patterns that spare a layer, such as ('conv.*',)"
        )
    return frozen


def stop_frozen(params: PyTree, config: ConfigDict) -> PyTree:
    """Returns the parameters with no gradient to those that are frozen.

    Used in the loss, it spares the backward pass below the lowest layer that is trained.
    """
    if not config.frozen:
        return params
    return jax.tree.map(
        lambda stays, leaf: jax.lax.stop_gradient(leaf) if stays else leaf,
        frozen_mask(params, config),
        params,
    )


def _scale_by_name(rates: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Scales the update of a parameter by the factor of the first pattern that its name matches."""
    patterns, factors = zip(*rates, strict=True)

    def scale(updates: PyTree, params: PyTree) -> PyTree:
        del params
        names = parameter_names(updates)
        found = first_match(jax.tree.leaves(names), patterns, "optimizer.rates")
        factor = {name: 1.0 if place is None else factors[place] for name, place in found.items()}
        return jax.tree.map(lambda name, update: factor[name] * update, names, updates)

    def init(params: PyTree) -> optax.EmptyState:
        scale(params, None)  # so that a mistake shows before the first step
        return optax.EmptyState()

    return optax.GradientTransformation(init, optax.stateless(scale).update)


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
