"""The training and the evaluation step: pure functions that know no devices.

All randomness comes from `stream_key(seed, stream, state.step)`. The only thing a step may know
about parallelism is the name of a mapped axis (`axis_name`, for pmap).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from vgg_jax.evaluation.scoring import Sums, masked_sums
from vgg_jax.rng import stream_key
from vgg_jax.training.state import TrainState

PyTree = Any
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Sums]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    augment: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    seed: int,
    label_smoothing: float = 0.0,
    accumulate: int = 1,
    group: int = 1,
    ema: float = 0.0,
    axis_name: str | None = None,
    freeze: Callable[[PyTree], PyTree] = lambda params: params,
) -> TrainStep:
    """Returns `train_step(state, batch) -> (state, metrics)`.

    A step whose loss or gradient is not finite only clears `state.healthy`: it and all steps after
    it leave the rest alone, so the state that led there is at hand when the host learns of it
    (`vgg_jax.training.diagnosis`).

    Args:
      model: maps (images, train) to (logits, endpoints).
      optimizer: applied to the mean gradient of the global batch.
      augment: (keys (N,), uint8 images (N, h, w, 3)) -> float images, one key an example.
      seed: the run's seed.
      label_smoothing: probability mass spread over all classes.
      accumulate: micro-batches that a batch is worked off in, one after the other.
      group: consecutive examples that must stay in one micro-batch (`model.norm_group`).
      ema: decay of the moving average of the parameters, (1 + step) / (10 + step) while that is
        less, so that the average forgets the random start; 0 where the state keeps none.
      axis_name: mapped axis over whose devices gradients, metrics and statistics are averaged.
      freeze: stops the gradient to the parameters that are not trained.

    The batch is {"image": uint8 (N, h, w, 3), "label": int32 (N,), "mask": bool (N,)}; metrics are
    float32 scalars: "loss" (mean cross entropy without decay), "top1" (fraction) and
    "gradient_norm" (global, of what is trained, before clipping and decay).
    """

    def loss_fn(
        params: PyTree, batch_stats: PyTree, key: jax.Array, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
        (logits, _), updates = model.apply(
            {"params": freeze(params), "batch_stats": batch_stats},
            images,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        top1 = jnp.mean(jnp.argmax(logits, -1) == labels)
        return loss, (updates.get("batch_stats", batch_stats), top1)

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def gradients(state: TrainState, images: jax.Array, labels: jax.Array) -> Any:
        key = stream_key(seed, "dropout", state.step)
        if axis_name is not None:
            key = jax.random.fold_in(key, lax.axis_index(axis_name))
        if accumulate == 1:
            return grad_fn(state.params, state.batch_stats, key, images, labels)

        def add_micro_batch(total: Any, micro: Any) -> tuple[Any, None]:
            index, micro_images, micro_labels = micro
            # Every micro-batch starts from the same running statistics: their mean is then what
            # one pass over the whole batch would have stored.
            out = grad_fn(
                state.params,
                state.batch_stats,
                jax.random.fold_in(key, index),
                micro_images,
                micro_labels,
            )
            return jax.tree.map(jnp.add, total, out), None

        micro = (
            jnp.arange(accumulate),
            _split(images, accumulate, group),
            _split(labels, accumulate, group),
        )
        first = jax.tree.map(lambda x: x[0], micro)
        shapes = jax.eval_shape(grad_fn, state.params, state.batch_stats, key, first[1], first[2])
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = lax.scan(add_micro_batch, zeros, micro)
        return jax.tree.map(lambda x: x / accumulate, total)

    def advance(state: TrainState, grads: PyTree, batch_stats: PyTree) -> TrainState:
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = state.ema
        if average is not None:
            decay = jnp.minimum(ema, (1 + state.step) / (10 + state.step))
            # So written, a parameter that does not move is its own average to the bit.
            average = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)
        return TrainState(state.step + 1, params, batch_stats, opt_state, state.healthy, average)

    # On a CPU a branch: a selection reads the old momentum for the parameters and for the momentum,
    # so XLA copies it first. On accelerators a selection, which fuses: a branch would have to wait.
    def advance_by_branch(healthy: jax.Array, state: TrainState, *rest: PyTree) -> TrainState:
        return lax.cond(healthy, advance, lambda state, *_: state, state, *rest)

    def advance_by_selection(healthy: jax.Array, state: TrainState, *rest: PyTree) -> TrainState:
        new = advance(state, *rest)
        return jax.tree.map(lambda n, o: jnp.where(healthy, n, o), new, state)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        count = batch["label"].shape[0]
        # Keys follow the example's place in the global batch, whatever device it is on.
        first = 0 if axis_name is None else lax.axis_index(axis_name) * count
        images = augment(example_keys(seed, state.step, count, first), batch["image"])
        (loss, (batch_stats, top1)), grads = gradients(state, images, batch["label"])
        if axis_name is not None:
            loss, batch_stats, top1, grads = lax.pmean((loss, batch_stats, top1, grads), axis_name)

        gradient_norm = optax.tree.norm(grads)
        healthy = state.healthy & jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        new = lax.platform_dependent(
            healthy, state, grads, batch_stats, cpu=advance_by_branch, default=advance_by_selection
        )
        return new.replace(healthy=healthy), {
            "loss": loss,
            "top1": top1,
            "gradient_norm": gradient_norm,
        }

    return train_step


def example_keys(
    seed: int, step: jax.typing.ArrayLike, count: int, first: jax.typing.ArrayLike = 0
) -> jax.Array:
    """Returns one augmentation key for each example (count,), by its place in the global batch."""
    key = stream_key(seed, "augment", step)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


def _split(array: jax.Array, parts: int, group: int) -> jax.Array:
    """Returns (N, ...) as (parts, N / parts, ...), whole groups of `group` rows going in turn.

    Dealing the groups out, rather than cutting the batch in `parts`, leaves every row on the
    device that holds it.
    """
    rest = array.shape[1:]
    dealt = array.reshape(-1, parts, group, *rest)
    return jnp.moveaxis(dealt, 1, 0).reshape(parts, -1, *rest)


def make_eval_step(
    model: nn.Module,
    transform: Callable[[jax.Array], jax.Array],
    *,
    mirrored: bool = False,
    axis_name: str | None = None,
) -> EvalStep:
    """Returns `eval_step(state, batch) -> sums` (`vgg_jax.evaluation.scoring.masked_sums`).

    Args:
      model: maps (images, train) to (logits, endpoints).
      transform: uint8 images -> float images, without randomness.
      mirrored: whether class probabilities are averaged with those of the mirror images.
      axis_name: mapped axis over which the sums are added.
    """

    def eval_step(state: TrainState, batch: Batch) -> Sums:
        images = transform(batch["image"])
        logits, _ = model.apply(state.eval_variables(), images, train=False)
        if mirrored:
            flipped, _ = model.apply(state.eval_variables(), images[:, :, ::-1], train=False)
            # Up to a constant the logarithm of the mean: scores and losses do not see the constant.
            logits = jnp.logaddexp(jax.nn.log_softmax(logits), jax.nn.log_softmax(flipped))
        sums = masked_sums(logits, batch["label"], batch["mask"])
        return sums if axis_name is None else lax.psum(sums, axis_name)

    return eval_step
