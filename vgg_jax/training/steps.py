"""The loss, the training step and the evaluation step: pure functions.

All randomness comes from `stream_key(seed, stream, state.step)`. Of devices they know at most the
name of a mapped axis (`Parallel.axis_name`).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax

from vgg_jax.evaluation.scoring import Sums, masked_sums
from vgg_jax.ops.platforms import per_platform
from vgg_jax.rng import stream_key
from vgg_jax.training.state import TrainState

PyTree = Any
Arrays = dict[str, jax.Array]
Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
Augment = Callable[[jax.Array, jax.Array], jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Sums]


def cross_entropy(logits: jax.Array, labels: jax.Array, label_smoothing: float = 0.0) -> jax.Array:
    """Returns the mean cross entropy in nats of logits (N, classes): float32 scalar.

    Args:
      logits: float32 (N, classes).
      labels: int32 (N,).
      label_smoothing: probability mass spread over all classes.
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), label_smoothing)
    return optax.softmax_cross_entropy(logits, targets).mean()


@dataclasses.dataclass(frozen=True)
class TrainLoss:
    """The training loss: of a micro-batch for the step, of the whole batch for everybody else.

    Attributes:
      model: maps (images, train) to (logits, endpoints); on a mapped axis only for the step.
      seed: the run's seed.
      label_smoothing: see `cross_entropy`.
      accumulate: number of micro-batches that a device's batch is split into.
      group: consecutive examples that must stay in one micro-batch (`model.norm_group`).
      freeze: stops the gradient to the parameters that are not trained.
    """

    model: nn.Module
    seed: int
    label_smoothing: float = 0.0
    accumulate: int = 1
    group: int = 1
    freeze: Callable[[PyTree], PyTree] = lambda params: params

    def of_micro_batch(
        self,
        params: PyTree,
        batch_stats: PyTree,
        key: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        perturbations: Arrays | None = None,
    ) -> tuple[jax.Array, tuple[PyTree, jax.Array, Arrays]]:
        """Returns the mean loss, and (new `batch_stats`, logits (n, classes), endpoints).

        Args:
          params: the parameters.
          batch_stats: running statistics before the step.
          key: of the dropout masks.
          images: float (n, H, W, 3), as the network takes them.
          labels: int32 (n,).
          perturbations: see `VGG.__call__`.
        """
        added: dict[str, Any] = {} if perturbations is None else {"perturbations": perturbations}
        (logits, endpoints), updates = self.model.apply(
            {"params": self.freeze(params), "batch_stats": batch_stats},
            images,
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
            **added,
        )
        loss = cross_entropy(logits, labels, self.label_smoothing)
        return loss, (updates.get("batch_stats", batch_stats), logits, endpoints)

    def of_batch(
        self, params: PyTree, state: TrainState, batch: Batch, perturbations: Arrays
    ) -> tuple[jax.Array, Arrays]:
        """Returns the loss that the step has on a global batch, and every endpoint (N, ...).

        It splits the batch and draws the dropout masks as the step does, but holds all the
        activations at once.

        Args:
          params: the parameters, to differentiate by.
          state: before the step: running statistics and the step's number.
          batch: {"image": float (N, H, W, 3), as the network takes them, "label": int32 (N,)}.
          perturbations: see `VGG.__call__`.
        """

        def on_micro_batch(key: jax.Array, part: PyTree) -> tuple[jax.Array, Arrays]:
            loss, (_, _, endpoints) = self.of_micro_batch(
                params, state.batch_stats, key, part["image"], part["label"], part["added"]
            )
            return loss, endpoints

        key = stream_key(self.seed, "dropout", state.step)
        whole = {"image": batch["image"], "label": batch["label"], "added": perturbations}
        if self.accumulate == 1:
            return on_micro_batch(key, whole)
        keys, parts = self.micro_batch_keys(key), self.micro_batches(whole)
        losses, endpoints = jax.vmap(on_micro_batch)(keys, parts)
        return losses.mean(), jax.tree.map(self._joined, endpoints)

    def micro_batch_keys(self, key: jax.Array) -> jax.Array:
        """Returns the key of each micro-batch's dropout masks: (accumulate,)."""
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.accumulate))

    def micro_batches(self, batch: PyTree) -> PyTree:
        """Returns arrays (n, ...) as (accumulate, n / accumulate, ...), groups dealt out in turn.

        Dealing them out, rather than cutting the batch, leaves every row on its device.
        """

        def split(array: jax.Array) -> jax.Array:
            dealt = array.reshape(-1, self.accumulate, self.group, *array.shape[1:])
            return jnp.moveaxis(dealt, 1, 0).reshape(self.accumulate, -1, *array.shape[1:])

        return jax.tree.map(split, batch)

    def _joined(self, parts: jax.Array) -> jax.Array:
        """Inverse of `micro_batches` for one array."""
        rest = parts.shape[2:]
        dealt = parts.reshape(self.accumulate, -1, self.group, *rest)
        return jnp.moveaxis(dealt, 0, 1).reshape(-1, *rest)


def make_train_step(
    loss: TrainLoss,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    *,
    ema: float = 0.0,
    axis_name: str | None = None,
) -> TrainStep:
    """Returns `train_step(state, batch) -> (state, metrics)`.

    A step whose loss or gradient is not finite only clears `state.healthy`: it and all later steps
    leave the rest alone, so the state that led there is at hand when the host learns of it
    (`vgg_jax.training.diagnosis`).

    Args:
      loss: what is minimised, and how a batch is split.
      optimizer: applied to the mean gradient of the global batch.
      augment: (keys (N,), uint8 images (N, h, w, 3)) -> float images, one key per example.
      ema: decay of the moving average of the parameters, (1 + step) / (10 + step) while that is
        less, so that the average forgets the random start; 0 if the state keeps none.
      axis_name: mapped axis over whose devices gradients, metrics and statistics are averaged.

    The batch is {"image": uint8 (N, h, w, 3), "label": int32 (N,), "mask": bool (N,)}; metrics are
    float32 scalars: "loss" (mean cross entropy without decay), "top1" (fraction) and
    "gradient_norm" (global, of what is trained, before clipping and decay).
    """

    def loss_fn(
        params: PyTree, batch_stats: PyTree, key: jax.Array, images: jax.Array, labels: jax.Array
    ) -> tuple[jax.Array, tuple[PyTree, jax.Array]]:
        value, (updates, logits, _) = loss.of_micro_batch(params, batch_stats, key, images, labels)
        return value, (updates, jnp.mean(jnp.argmax(logits, -1) == labels))

    grad_fn = jax.value_and_grad(loss_fn, has_aux=True)

    def gradients(state: TrainState, images: jax.Array, labels: jax.Array) -> Any:
        # Every micro-batch starts from the same running statistics: their mean is then what one
        # pass over the whole batch would have stored.
        part_gradients = functools.partial(grad_fn, state.params, state.batch_stats)
        key = stream_key(loss.seed, "dropout", state.step)
        if loss.accumulate == 1:
            return part_gradients(key, images, labels)

        def add(total: Any, micro: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, part_gradients(*micro)), None

        micro = (loss.micro_batch_keys(key), *loss.micro_batches((images, labels)))
        shapes = jax.eval_shape(part_gradients, *jax.tree.map(lambda x: x[0], micro))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = lax.scan(add, zeros, micro)
        return jax.tree.map(lambda x: x / loss.accumulate, total)

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
        images = augment(example_keys(loss.seed, state.step, count, first), batch["image"])
        (value, (batch_stats, top1)), grads = gradients(state, images, batch["label"])
        if axis_name is not None:
            value, batch_stats, top1, grads = lax.pmean(
                (value, batch_stats, top1, grads), axis_name
            )

        gradient_norm = optax.tree.norm(grads)
        healthy = state.healthy & jnp.isfinite(value) & jnp.isfinite(gradient_norm)
        new = per_platform(
            healthy, state, grads, batch_stats, cpu=advance_by_branch, default=advance_by_selection
        )
        return new.replace(healthy=healthy), {
            "loss": value,
            "top1": top1,
            "gradient_norm": gradient_norm,
        }

    return train_step


def scan_steps(train_step: TrainStep) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """Returns the function that makes k steps; pure.

    Its arguments are the state and (data, indices): the training set {"image": uint8 (N, h, w, 3),
    "label": int32 (N,)} and the examples of each step, int32 (k, B). A metric has one value per
    step, (k,).
    """

    def steps(state: TrainState, inputs: tuple[Batch, jax.Array]) -> tuple[TrainState, Metrics]:
        data, indices = inputs

        def step(state: TrainState, chosen: jax.Array) -> tuple[TrainState, Metrics]:
            return train_step(state, {name: values[chosen] for name, values in data.items()})

        return lax.scan(step, state, indices)

    return steps


def example_keys(
    seed: int, step: jax.typing.ArrayLike, count: int, first: jax.typing.ArrayLike = 0
) -> jax.Array:
    """Returns one augmentation key for each example (count,), by its place in the global batch."""
    key = stream_key(seed, "augment", step)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(count))


@functools.partial(jax.jit, static_argnums=(0, 1))
def augmented(augment: Augment, seed: int, step: jax.typing.ArrayLike, batch: Batch) -> Batch:
    """Returns {"image", "label"} of a global batch, its images augmented as the step does."""
    images = augment(example_keys(seed, step, batch["label"].shape[0]), batch["image"])
    return {"image": images, "label": batch["label"]}


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
