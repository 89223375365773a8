"""Trains the pairs of networks, and measures what their last convolutions see before and after."""

import functools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from configs.base import vgg
from experiments.receptive_field.maps import Row, canvas, last_convs, make_probe, mirrored, theory
from experiments.receptive_field.presets import Pair, Preset
from vgg_jax.data.augment import make_eval_transform, make_train_augment
from vgg_jax.data.pipeline import EvalPipeline, TrainPipeline
from vgg_jax.data.source import Source
from vgg_jax.data.sources import open_source
from vgg_jax.evaluation.scoring import accuracies
from vgg_jax.models import VGG
from vgg_jax.models.summary import summarize_model
from vgg_jax.models.variants import parse_stage
from vgg_jax.training.setup import from_config
from vgg_jax.training.state import TrainState, init_variables, new_state
from vgg_jax.training.steps import Batch, Metrics, TrainLoss, make_eval_step, make_train_step
from vgg_jax.xla import DRAWING, NETWORK, on_cpu

WARM_UP = 0.05  # of the steps
WEIGHT_DECAY = 5e-4
PROBED = 16  # test images
EVAL_BATCH = 500


def network_config(
    pair: Pair, stages: tuple[str, ...], width: float, preset: Preset, data_dir: str | None
) -> ConfigDict:
    """Returns the config of one network of a pair: one fully connected layer, no dropout."""
    config = vgg("B", preset.data)
    if data_dir is not None:
        config.data.source, config.data.dir = "npz", data_dir
    config.data.batch_size, config.eval.batch_size = preset.batch_size, EVAL_BATCH
    config.model.stages, config.model.width, config.model.norm = stages, width, pair.norm
    config.model.head, config.model.dropout, config.model.kernel_init = "linear", 0.0, "he_fan_in"
    if pair.as_the_paper:
        config.data.std, config.model.kernel_init = (1.0, 1.0, 1.0), "glorot_normal"
    return config


def same_parameters(
    pair: Pair, stages: tuple[str, ...], target: int, preset: Preset, data_dir: str | None
) -> float:
    """Returns the width at which a network has the number of parameters nearest to `target`."""

    def distance(width: float) -> int:
        return abs(parameters(from_config(config_of(width)).model, preset) - target)

    def config_of(width: float) -> ConfigDict:
        return network_config(pair, stages, width, preset, data_dir)

    # Widths that change the number of channels of some layer by one.
    channels = {conv.channels for stage in stages for conv in parse_stage(stage)}
    steps = sorted({n / c for c in channels for n in range(1, round(c * preset.width) + 1)})
    return min(steps, key=distance)


def parameters(model: VGG, preset: Preset) -> int:
    """Returns the number of trained values."""
    return summarize_model(model, image_size(preset)).parameters


def image_size(preset: Preset) -> int:
    """Returns the side of the training images."""
    return int(vgg("B", preset.data).data.image_size)


class Network:
    """A network with its compiled programs, which every seed and number of steps share."""

    def __init__(self, config: ConfigDict, preset: Preset) -> None:
        """Opens the data; nothing is compiled before it is used."""
        self.config, self.preset = config, preset
        self.model = from_config(config).model
        self.layer = last_convs(self.model)[-1]
        self.side = canvas(self.model, self.layer)
        self.probe = make_probe(self.model, self.layer)
        self.transform = make_eval_transform(config.data)
        self.augment = make_train_augment(config.data)
        self.evaluate = jax.jit(
            make_eval_step(self.model, self.transform), compiler_options=on_cpu(NETWORK)
        )

    def optimizer(self, steps: jax.typing.ArrayLike) -> optax.GradientTransformation:
        """Returns AdamW whose rate rises linearly, then falls along a cosine to zero."""

        def schedule(count: jax.typing.ArrayLike) -> jax.Array:
            rising = (jnp.asarray(count) + 1) / (WARM_UP * steps)
            falling = (1 + jnp.cos(jnp.pi * jnp.asarray(count) / steps)) / 2
            return self.preset.learning_rate * jnp.minimum(rising, falling)

        return optax.adamw(schedule, weight_decay=WEIGHT_DECAY)

    @functools.cached_property
    def start(self) -> Any:
        """Returns seed -> state before the first step."""

        def init(seed: int) -> TrainState:
            variables = init_variables(self.model, seed, image_size(self.preset))
            return new_state(variables, self.optimizer(1), with_ema=False)

        return jax.jit(init, compiler_options=on_cpu(DRAWING))

    @functools.cached_property
    def advance(self) -> Any:
        """Returns (state, batch, seed, steps of the run) -> (state, metrics)."""

        def step(
            state: TrainState, batch: Batch, seed: int, steps: int
        ) -> tuple[TrainState, Metrics]:
            loss = TrainLoss(self.model, seed)
            return make_train_step(loss, self.optimizer(steps), self.augment)(state, batch)

        return jax.jit(step, donate_argnums=0, compiler_options=on_cpu(NETWORK))

    def train(self, seed: int, steps: int) -> Row:
        """Trains from a seed; returns accuracy and what the centre unit sees, before and after."""
        batches = self.batches(seed)
        state = self.start(seed)
        before = self.spread(state, seed)
        for _ in range(steps):
            state, metrics = self.advance(state, next(batches), seed, steps)
        if not state.healthy:
            raise FloatingPointError(f"the loss of {self.config.model.stages} is not finite")
        totals: dict[str, float] = {}
        test = EvalPipeline(self.source("test"), self.config.data, batch_size=EVAL_BATCH)
        for batch in test:
            for name, value in self.evaluate(state, batch).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        scores = accuracies(totals, test.num_examples)
        return {
            "seed": seed,
            "steps": steps,
            "top1": scores["top1"],
            "loss": scores["loss"],
            "train_loss": float(metrics["loss"]),
            "before": before,
            "after": self.spread(state, seed),
            "lrn_variation": self.lrn_variation(state),
        }

    def lrn_variation(self, state: TrainState) -> float:
        """Returns what varies in the factors of the local response normalisation; NaN without one.

        Their standard deviation over their mean, of units that are on, on test images. A factor
        that does not vary is one that the next layer's weights can hold.
        """
        if not self.model.conv_stages[0][0].lrn:
            return float("nan")
        images = self.transform(self.test_images())
        _, endpoints = self.model.apply(state.eval_variables(), images)
        before, after = endpoints["relu1_1"], endpoints["lrn1_1"]
        factors = after[before > 0] / before[before > 0]
        return float(jnp.std(factors) / jnp.mean(factors))

    def spread(self, state: TrainState, seed: int) -> float:
        """Returns the spread of the squared gradient on test images, continued by reflection."""
        images = mirrored(self.test_images(), self.side)
        return self.probe(state.eval_variables(), self.transform(images), seed)[0]

    def test_images(self) -> np.ndarray:
        """Returns the first test images, uint8 (N, H, W, 3)."""
        test = EvalPipeline(self.source("test"), self.config.data, batch_size=PROBED)
        return test.batch(0)["image"]

    def batches(self, seed: int) -> Iterator[Batch]:
        """Yields the training batches of a seed."""
        pipeline = TrainPipeline(self.source("train"), self.config.data, seed=seed)
        step = 0
        while True:
            yield pipeline.batch(step)
            step += 1

    def source(self, split: str) -> Source:
        """Opens a split once per process."""
        data = self.config.data
        return _opened(data.source, data.name, data.dir, split)

    def describe(self) -> Row:
        """Returns size, cost and theory of the network."""
        summary = summarize_model(self.model, image_size(self.preset))
        return {
            "width": float(self.config.model.width),
            "parameters": summary.parameters,
            "macs": summary.macs,
        } | theory(self.model, self.layer)


def time_ratio(first: Network, second: Network, preset: Preset) -> dict[str, Any]:
    """Times training steps of two networks in turn; returns seconds and their ratio.

    The ratio, first over second, is the median over the rounds. On a CPU the seconds are those of
    the processor, over all cores: other work on the machine does not enter.
    """
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    rounds, steps = preset.timed
    runs = []
    for network in (first, second):
        state = network.start(0)
        batch = jax.device_put(next(network.batches(0)))
        state, _ = network.advance(state, batch, 0, preset.steps)  # compiles
        runs.append([network, jax.block_until_ready(state), batch])
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for run, found in zip(runs, seconds, strict=True):
            network, state, batch = run
            started = clock()
            for _ in range(steps):
                state, _ = network.advance(state, batch, 0, preset.steps)
            run[1] = jax.block_until_ready(state)
            found.append((clock() - started) / steps)
    ratios = [a / b for a, b in zip(*seconds, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "milliseconds": [round(1e3 * statistics.median(found), 2) for found in seconds],
    }


@functools.cache
def _opened(source: str, name: str, data_dir: str | None, split: str) -> Source:
    return open_source(ConfigDict({"source": source, "name": name, "dir": data_dir}), split)
