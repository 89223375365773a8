"""Trains the cells of one net: one compiled program, the learning rate an argument of it."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from configs.base import vgg
from experiments.init_gradients.measure import initialized
from experiments.trainability.presets import Preset
from vgg_jax.data.augment import make_eval_transform
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline
from vgg_jax.data.sources import open_source
from vgg_jax.models import VGG
from vgg_jax.models.fields import ACTIVATIONS
from vgg_jax.probes.gradients import Arrays, Measured, layer_statistics
from vgg_jax.training.steps import cross_entropy

CURE = "from_trained_A"
CURED_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")
MOMENTUM = 0.9
SEED = 0
TARGET = 0.5  # accuracy; guessing gives 0.1
# A cell that did not reach it is named after the first of these that is true.
DEAD = 0.99  # share of a layer's channels that are off for every example
STILL = 1e-5  # relative change of the median layer in one step, below which nothing moves
DIVERGED = 3.0  # times the loss of guessing

Variables = dict[str, Any]
Batches = dict[str, jax.Array]


def train_cells(net: str, norm: str, inits: Sequence[str], preset: Preset) -> list[dict[str, Any]]:
    """Trains a net from every initialiser at every rate; returns a row per run."""
    train_batches, test_batch = load(preset.steps, preset.batch_size)
    model = network(net, norm, preset.width)
    train, probe, evaluate = programs(model)
    rows = []
    for init in inits:
        for rate in preset.rates:
            variables = start(net, norm, init, rate, preset, train_batches)
            before = jax.device_get(probe(variables, train_batches[0]))
            variables, losses = jax.device_get(train(variables, rate, train_batches))
            after = jax.device_get(probe(variables, train_batches[-1]))
            accuracy = float(evaluate(variables, test_batch))
            row = {
                "net": net,
                "init": init,
                "norm": norm,
                "learning_rate": rate,
                "seed": SEED,
                "step": preset.steps,
                "accuracy": accuracy,
                "loss": float(losses[-10:].mean()),
                "gradient_ratio": first_over_last(before),
                "outcome": outcome(accuracy, losses, before, after, rate),
            }
            print(f"  {init}, rate {rate:g}: {row['outcome']}, accuracy {accuracy:.1%}", flush=True)
            rows.append(row)
    return rows


def network(net: str, norm: str, width: float) -> VGG:
    """Returns a net with three fully connected layers for ten classes of 32x32 images."""
    return VGG(
        variant=net,
        num_classes=10,
        head="cifar",
        head_window=1,
        norm=norm,
        width=width,
        dropout=0.0,
    )


def start(
    net: str, norm: str, init: str, rate: float, preset: Preset, batches: list[Batches]
) -> Variables:
    """Returns the variables a cell starts from.

    Fixed standard deviations belong to the full width: divided by the root of the width multiplier,
    they give every layer the gain that it has there. The cure is section 3.1 of the
    VGG paper: the first four convolutions and the fully connected layers of a trained net A, the
    other layers as the paper draws them. A is trained from He's initialisation at the same rate
    for the same number of steps.
    """
    paper = init == CURE or init.startswith("paper")
    model = network(net, norm, preset.width).clone(kernel_init="paper" if init == CURE else init)
    variables = initialized(model, SEED, batches[0]["image"])
    params = dict(variables["params"])
    if paper:
        for layer in model.layer_names:
            params[layer] = params[layer] | {"kernel": params[layer]["kernel"] * preset.width**-0.5}
    if init == CURE:
        trained = trained_shallow(norm, rate, preset)
        params |= {layer: trained[layer] for layer in CURED_LAYERS}
    return {"params": params, "batch_stats": variables.get("batch_stats", {})}


@functools.cache
def trained_shallow(norm: str, rate: float, preset: Preset) -> dict[str, Any]:
    """Returns the parameters of net A, trained from He's initialisation."""
    batches, _ = load(preset.steps, preset.batch_size)
    first = start("A", norm, "he_fan_in", rate, preset, batches)
    trained, _ = programs(network("A", norm, preset.width))[0](first, rate, batches)
    return trained["params"]


def momentum(rate: jax.Array) -> optax.GradientTransformation:
    """Returns the optimiser of every cell."""
    return optax.sgd(rate, MOMENTUM)


@functools.cache
def programs(
    model: VGG, optimizer: Callable[[jax.Array], optax.GradientTransformation] = momentum
) -> tuple[Callable[..., Any], ...]:
    """Returns the compiled training run, probe and evaluation of a net."""

    def loss_fn(params: Any, batch_stats: Any, batch: Batches, perturbations: Arrays) -> Any:
        (logits, endpoints), updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["image"],
            train=True,
            perturbations=perturbations,
            mutable=["batch_stats"],
        )
        loss = cross_entropy(logits, batch["label"])
        return loss, (endpoints, updates.get("batch_stats", {}))

    @jax.jit
    def step(variables: Variables, opt_state: Any, rate: jax.Array, batch: Batches) -> Any:
        params, batch_stats = variables["params"], variables["batch_stats"]
        (loss, (_, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, batch_stats, batch, {}
        )
        updates, opt_state = optimizer(rate).update(grads, opt_state)
        params = optax.apply_updates(params, updates)
        return {"params": params, "batch_stats": batch_stats}, opt_state, loss

    def train(variables: Variables, rate: float, batches: list[Batches]) -> Any:
        opt_state, losses = optimizer(rate).init(variables["params"]), []
        for batch in batches:
            variables, opt_state, loss = step(variables, opt_state, rate, batch)
            losses.append(loss)
        return variables, jnp.stack(losses)

    @jax.jit
    def probe(variables: Variables, batch: Batches) -> Measured:
        def forward(params: Any, perturbations: Arrays) -> Any:
            loss, (endpoints, _) = loss_fn(params, variables["batch_stats"], batch, perturbations)
            return loss, endpoints

        activation = ACTIVATIONS[model.activation]
        return layer_statistics(forward, variables["params"], model.preactivations, activation)[0]

    @jax.jit
    def evaluate(variables: Variables, batch: Batches) -> jax.Array:
        logits, _ = model.apply(variables, batch["image"], train=False)
        return jnp.mean(jnp.argmax(logits, -1) == batch["label"])

    return train, probe, evaluate


def first_over_last(measured: dict[str, dict[str, Any]]) -> float:
    """Returns the gradient's RMS at the first convolution over that at the last."""
    scales = [
        value for layer, value in measured["activation_grad_rms"].items() if layer[:4] == "conv"
    ]
    return float(scales[0]) / float(scales[-1]) if scales[-1] else float("nan")


def outcome(
    accuracy: float,
    losses: np.ndarray,
    before: dict[str, dict[str, Any]],
    after: dict[str, dict[str, Any]],
    rate: float,
) -> str:
    """Names how a cell ended, from its probes before the first and after the last step."""
    guessing = math.log(10)
    if accuracy >= TARGET:
        return "trained"
    if not np.isfinite(losses[-1]) or losses[-10:].mean() > DIVERGED * guessing:
        return "exploded"
    if max(after["dead_fraction"].values()) >= DEAD:
        return "dead"
    moves = np.median(list(before["grad_param_ratio"].values())) * rate
    return "vanished" if moves < STILL else "slow"


@functools.cache
def load(steps: int, batch_size: int, seed: int = SEED) -> tuple[list[Batches], Batches]:
    """Returns a seed's training batches in order and the whole test set, on the device."""
    config = vgg("D", "digits").data
    config.batch_size, config.augment = batch_size, "none"
    normalize = make_eval_transform(config)

    def on_device(batch: dict[str, Any]) -> Batches:
        return {"image": normalize(batch["image"]), "label": jnp.asarray(batch["label"])}

    train = TrainPipeline(open_source(config, "train"), config, seed=seed)
    test_source = open_source(config, "test")
    test = EvalPipeline(test_source, config, batch_size=len(test_source)).batch(0)
    return [on_device(train.batch(step)) for step in range(steps)], on_device(test)
