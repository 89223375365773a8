"""What to tell a user whose training does not train: where it broke, or how small its signals are.

The functions take the state just before the step in question (`Parallel.storable`) and the batch
of that step, and draw the step's own dropout masks.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vgg_jax.models import VGG
from vgg_jax.probes.gradients import Arrays, layer_scales
from vgg_jax.rng import stream_key
from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import example_keys

Batch = dict[str, Any]


def step_loss(
    model: VGG,
    seed: int,
    state: TrainState,
    params: Any,
    batch: Batch,
    perturbations: Arrays,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, Arrays]:
    """Returns the loss of a step and all endpoints, as a function of parameters and perturbations.

    Args:
      model: outside of any mapped axis (`norm_axis_name` None).
      seed: the run's seed.
      state: before the step; gives the running statistics and the number of the step.
      params: the parameters.
      batch: {"image": float images as the network gets them, "label": int}.
      perturbations: see `VGG.__call__`.
      label_smoothing: as in `make_train_step`.
    """
    (logits, endpoints), _ = model.apply(
        {"params": params, "batch_stats": state.batch_stats},
        batch["image"],
        train=True,
        perturbations=perturbations,
        rngs={"dropout": stream_key(seed, "dropout", state.step)},
        mutable=["batch_stats"],
    )
    targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
    losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, label_smoothing))
    return losses.mean(), endpoints


def first_nonfinite(model: VGG, seed: int, state: TrainState, batch: Batch) -> str:
    """Names the first array of a step that holds a NaN or an infinity.

    Looked through in the order of computation: parameters, images, endpoints from the first layer
    to the last, the loss, then the weights' gradients from the last layer to the first.

    Args:
      model: outside of any mapped axis (`norm_axis_name` None).
      seed: the run's seed.
      state: before the step.
      batch: {"image": float images as the network gets them, "label": int}.

    Returns:
      For example "the activations of conv3_2".
    """
    names: list[str] = []

    @jax.jit
    def examine(state: TrainState, batch: Batch) -> list[jax.Array]:
        (loss, endpoints), grads = jax.value_and_grad(
            lambda params: step_loss(model, seed, state, params, batch, {}), has_aux=True
        )(state.params)

        def named(tree: Any, kind: str) -> Arrays:
            return {
                f"{kind} {jax.tree_util.keystr(path, simple=True, separator='/')}": leaf
                for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
            }

        arrays = named(state.params, "the parameter") | {"the images": batch["image"]}
        arrays |= {f"the activations of {name}": x for name, x in endpoints.items()}
        arrays["the loss"] = loss
        # Of a layer with batch norm, the normalisation's gradient comes first.
        for layer in reversed(model.layer_names):
            for part in (layer.replace("conv", "bn"), layer):
                if part in grads:
                    arrays |= named({part: grads[part]}, "the gradient of")
        # A list, because jit would sort a dictionary: the order of computation is what we want.
        names[:] = arrays
        return [jnp.all(jnp.isfinite(x)) for x in arrays.values()]

    for finite, name in zip(jax.device_get(examine(state, batch)), names, strict=True):
        if not finite:
            return name
    return "the norm of the gradient, whose square is too large for float32"


def scale_report(model: VGG, seed: int, state: TrainState, batch: Batch) -> str:
    """Returns the scales of pre-activations and of their gradients, a line a layer."""

    @jax.jit
    def measure(state: TrainState, batch: Batch) -> tuple[Arrays, Arrays]:
        return layer_scales(
            lambda zeros: step_loss(model, seed, state, state.params, batch, zeros),
            list(model.preactivations.values()),
        )

    values, gradients = jax.device_get(measure(state, batch))
    lines = [f"  {'layer':10s} {'RMS':>10s} {'RMS of dL/dz':>14s}"]
    for name in model.preactivations.values():
        lines.append(f"  {name:10s} {values[name]:10.3g} {gradients[name]:14.3g}")
    return "\n".join(lines)


def augmented(augment: Any, seed: int, step: int, batch: Batch) -> Batch:
    """Returns the batch of a step with its images as the step augments them."""
    images = jax.jit(augment)(example_keys(seed, step, len(batch["label"])), batch["image"])
    return {"image": images, "label": batch["label"]}
