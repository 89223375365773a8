"""The training step: what it computes, what it is a function of, and what a bad loss does to it.

And the loss of the whole batch, which is that of the step however the step splits the batch.
"""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training.conftest import SIZE
from vgg_jax.evaluation.scoring import masked_sums
from vgg_jax.training import steps
from vgg_jax.training.optimizers import make_optimizer
from vgg_jax.training.parallel import make_parallel
from vgg_jax.training.state import init_variables, new_state
from vgg_jax.training.steps import (
    TrainLoss,
    augmented,
    cross_entropy,
    example_keys,
    make_eval_step,
    make_train_step,
)

SGD = optax.chain(optax.trace(0.9), optax.scale(-0.1))


@functools.cache
def start(model, *, ema=False, optimizer=SGD):
    return jax.jit(lambda: new_state(init_variables(model, 0, SIZE), optimizer, with_ema=ema))()


@functools.cache  # tests that take the same step compile it once
def step_of(model, augment, *, ema=0.0, platform=None, **options):
    """The step as it is here; or as on a "cpu", or by "default", as on accelerators."""
    train_step = make_train_step(TrainLoss(model, 3, **options), SGD, augment, ema=ema)
    if platform is None:
        return jax.jit(train_step)

    def per_platform(*args, cpu, default):
        return cpu(*args) if platform == "cpu" else default(*args)

    def step(state, batch):
        with pytest.MonkeyPatch.context() as patch:  # while it is traced
            patch.setattr(steps, "per_platform", per_platform)
            return train_step(state, batch)

    return jax.jit(step)


def differences(a, b):
    """By NumPy, as `global_norm`: JAX would compile for every shape."""
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(np.abs(np.asarray(x, np.float64) - np.asarray(y)).max() for x, y in leaves)


def global_norm(tree):
    return np.linalg.norm([np.linalg.norm(leaf) for leaf in jax.tree.leaves(tree)])


def test_metrics_and_update_are_those_of_the_loss(tiny_vgg, augment, batch_of):
    model, batch = tiny_vgg(), batch_of(8)
    state = start(model)
    new, metrics = step_of(model, augment, label_smoothing=0.1)(state, batch)

    images = augment(example_keys(3, 0, 8), batch["image"])

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(params):
        logits, _ = model.apply({"params": params}, images)
        log_p = jax.nn.log_softmax(logits)
        true = log_p[jnp.arange(8), batch["label"]]
        return -(0.9 * true + 0.1 * log_p.mean(-1)).mean()

    loss, grads = loss_and_gradient(state.params)
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert metrics["gradient_norm"] == pytest.approx(global_norm(grads), rel=1e-5)
    expected = jax.tree.map(lambda p, g: np.asarray(p) - 0.1 * np.asarray(g), state.params, grads)
    assert differences(new.params, expected) < 1e-6
    assert int(new.step) == 1


def test_all_platforms_advance_alike(tiny_vgg, augment, batch_of):
    model, batch = tiny_vgg(norm="batch"), batch_of(8)
    state = start(model, ema=True)
    ended = {}
    for platform in ("cpu", "default"):
        ended[platform], _ = step_of(model, augment, ema=0.9, platform=platform)(state, batch)
    assert differences(ended["cpu"], ended["default"]) < 1e-6
    assert differences(ended["cpu"].params, state.params) > 1e-6


def test_a_cpu_updates_the_state_in_place(tiny_vgg, augment, batch_of):
    """XLA copies no kernel or momentum first, which takes time and as much memory again."""
    train_step = make_train_step(TrainLoss(tiny_vgg(), 3), SGD, augment)
    step = jax.jit(train_step, donate_argnums=0).lower(start(tiny_vgg()), batch_of(8)).compile()
    assert not re.search(r" copy\(%state_\w*kernel", step.as_text())


def test_loss_falls(tiny_vgg, augment, batch_of):
    model, batch = tiny_vgg(norm="batch"), batch_of(8)
    # Each class is a colour of its own.
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    batch["image"] = np.broadcast_to(colors[batch["label"], None, None], batch["image"].shape)
    step, state = step_of(model, augment), start(model)
    losses = []
    for _ in range(40):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_step_is_a_function_of_state_and_batch_alone(tiny_vgg, augment, batch_of):
    model, batch = tiny_vgg(head="cifar", head_features=(8, 8)), batch_of(8)
    step, state = step_of(model, augment), start(model)
    once, _ = step(state, batch)
    again, _ = step(state, batch)
    assert differences(once, again) == 0
    # Another step number: another augmentation, other dropout masks.
    later, _ = step(state.replace(step=jnp.asarray(7)), batch)
    assert differences(once.params, later.params) > 1e-4


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_accumulation_changes_nothing(tiny_vgg, augment, batch_of, accumulate, norm):
    model, batch = tiny_vgg(norm=norm, norm_group=2), batch_of(16)
    state = start(model)
    whole, whole_metrics = step_of(model, augment)(state, batch)
    parts, metrics = step_of(model, augment, accumulate=accumulate, group=2)(state, batch)
    assert differences(whole.params, parts.params) < 1e-6
    if norm == "batch":
        assert differences(whole.batch_stats, parts.batch_stats) < 1e-6
    assert metrics["loss"] == pytest.approx(float(whole_metrics["loss"]), rel=1e-5)


def test_micro_batches_are_dealt_out_by_groups():
    dealt = TrainLoss(None, 0, accumulate=2, group=2).micro_batches(jnp.arange(16))
    assert dealt.tolist() == [[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]]


@pytest.mark.parametrize(("step", "decay"), [(0, 0.1), (8, 0.5), (1000, 0.75)])
def test_average_of_parameters(tiny_vgg, augment, batch_of, step, decay):
    """The first steps count for little: the average is not held back by the random start."""
    model = tiny_vgg()
    state = start(model, ema=True).replace(step=jnp.int32(step))
    new, _ = step_of(model, augment, ema=0.75)(state, batch_of(4))
    params = jax.device_get((state.params, new.params))
    expected = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, *params)
    assert differences(new.ema, expected) < 1e-7
    assert new.eval_variables()["params"] is new.ema


@pytest.mark.parametrize("platform", ["cpu", "default"])
@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_nothing_moves_once_something_is_not_finite(tiny_vgg, augment, batch_of, bad, platform):
    model = tiny_vgg(norm="batch")
    state = start(model, ema=True)
    params = jax.device_get(state.params)
    if bad == "loss":
        params["fc8"] = jax.tree.map(lambda p: np.full_like(p, np.nan), params["fc8"])
    else:  # logits of a finite loss whose gradient's square overflows
        for layer in ("bn1_1", "conv1_2"):
            params[layer] = jax.tree.map(lambda p: np.float32(1e30) * p, params[layer])
    broken = state.replace(params=params)
    step = step_of(model, augment, ema=0.9, platform=platform)
    after, metrics = step(broken, batch_of(8))
    assert not np.isfinite(float(metrics["loss"] + metrics["gradient_norm"]))
    assert not after.healthy
    later, _ = step(after, batch_of(8, seed=1))
    for stopped in (after, later):
        untouched = stopped.replace(healthy=broken.healthy)
        jax.tree.map(np.testing.assert_array_equal, untouched, broken)


def test_plain_stack_keeps_its_batch_out_of_eval(tiny_vgg, augment, batch_of):
    """Padding never counts: scores of a padded batch are those of the examples alone."""
    model = tiny_vgg()
    state = start(model)
    step = jax.jit(make_eval_step(model, lambda x: x.astype(jnp.float32) / 64))
    batch = batch_of(8)
    whole = step(state, {k: v[:5] for k, v in batch.items()})
    padded = step(state, batch | {"mask": np.arange(8) < 5})
    for name in whole:
        assert float(padded[name]) == pytest.approx(float(whole[name]), rel=1e-6)
    assert int(padded["examples"]) == 5


def test_mirror_images_share_in_the_scores(tiny_vgg, batch_of):
    """Scores are those of the mean probabilities, by the definition."""
    model, batch = tiny_vgg(), batch_of(8)
    state = start(model)

    def transform(images):
        return images.astype(jnp.float32) / 64

    sums = jax.jit(make_eval_step(model, transform, mirrored=True))(state, batch)
    images = transform(batch["image"])
    apply = jax.jit(model.apply)
    views = [apply(state.eval_variables(), v)[0] for v in (images, images[:, :, ::-1])]
    mean = sum(jax.nn.softmax(logits) for logits in views) / 2
    expected = jax.jit(masked_sums)(np.log(mean), batch["label"], batch["mask"])
    for name in expected:
        assert float(sums[name]) == pytest.approx(float(expected[name]), rel=1e-5)
    plain = jax.jit(make_eval_step(model, transform))(state, batch)
    assert float(plain["loss"]) != pytest.approx(float(sums["loss"]), rel=1e-5)


def test_optimizer_of_a_config_runs_in_the_step(tiny_vgg, augment, batch_of):
    from configs.base import base

    config = base().optimizer
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    model = tiny_vgg()
    state = start(model, optimizer=optimizer)
    step = jax.jit(make_train_step(TrainLoss(model, 0), optimizer, augment))
    new, _ = step(state, batch_of(4))
    assert differences(new.params, state.params) > 0


# --- The loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "options", "fields"),
    [
        ("jit", {}, {}),
        ("jit", {"accumulate": 4}, {}),
        ("jit", {"accumulate": 2, "group": 2}, {"norm": "batch", "norm_group": 2}),
        ("pmap", {}, {"norm": "batch"}),
        ("pmap", {"accumulate": 2}, {}),
        ("pmap", {"accumulate": 2, "group": 2}, {"norm": "batch", "norm_group": 2}),
    ],
)
def test_loss_and_gradient_are_those_of_the_step(
    tiny_vgg, augment, batch_of, mode, options, fields
):
    head = {"head": "cifar", "head_features": (8,), "head_window": SIZE // 2, "dropout": 0.5}
    model = tiny_vgg(stages=("3-4",), **head | fields)
    parallel = make_parallel(mode)
    loss = TrainLoss(model, 3, label_smoothing=0.1, **options)
    adapted = dataclasses.replace(loss, model=parallel.adapted(model))
    optimizer = optax.sgd(0.1)
    step = parallel.compile_train(
        make_train_step(adapted, optimizer, augment, axis_name=parallel.axis_name)
    )
    state = parallel.init(
        lambda: new_state(init_variables(model, 0, SIZE), optimizer, with_ema=False)
    )
    batch = parallel.put(batch_of(16))

    @jax.jit
    def examine(state, batch):
        seen = augmented(augment, 3, 0, batch)
        return jax.value_and_grad(
            lambda params: loss.of_batch(params, state, seen, {}), has_aux=True
        )(state.params)

    (value, endpoints), gradient = examine(state, batch)
    assert endpoints["fc8"].shape == (16, 1, 1, 4)
    # The endpoints are in the order of the batch: they give the loss again.
    logits, labels = np.asarray(endpoints["fc8"])[:, 0, 0], np.asarray(batch["label"])
    assert float(cross_entropy(logits, labels, 0.1)) == pytest.approx(float(value), rel=1e-5)
    _, metrics = step(state, batch)
    assert float(value) == pytest.approx(float(metrics["loss"]), rel=1e-5)
    assert global_norm(gradient) == pytest.approx(float(metrics["gradient_norm"]), rel=1e-4)


def test_cross_entropy_equals_its_definition():
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 0])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    true = log_p[np.arange(5), labels]
    expected = -(0.7 * true + 0.3 * log_p.mean(-1)).mean()
    assert float(cross_entropy(logits, labels, 0.3)) == pytest.approx(float(expected), rel=1e-5)
