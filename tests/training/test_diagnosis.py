"""The layer that is named is the one that went first, at the step where it did."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training.conftest import SIZE
from vgg_jax.models.fields import ACTIVATIONS
from vgg_jax.models.initializers import GAINS
from vgg_jax.training import setup
from vgg_jax.training.diagnosis import NonFiniteError, Watch, first_nonfinite, scale_report
from vgg_jax.training.state import init_variables, new_state
from vgg_jax.training.steps import TrainLoss, augmented


@pytest.fixture(scope="module")
def prepared(tiny_vgg, augment, batch_of):
    model = tiny_vgg(norm="batch")
    optimizer = optax.sgd(0.1)
    state = jax.jit(lambda: new_state(init_variables(model, 0, SIZE), optimizer, with_ema=False))()
    return (
        TrainLoss(model, seed=0),
        state,
        jax.jit(lambda batch: augmented(augment, 0, 0, batch))(batch_of(4)),
    )


@pytest.mark.parametrize(
    ("layer", "value", "expected"),
    [
        ("conv1_2", np.nan, "the parameter conv1_2/bias"),
        # Large, but finite until it meets the signal.
        ("bn1_1", 1e38, "the activations of bn1_1"),
        ("fc8", 3e38, "the activations of fc8"),
    ],
)
def test_first_layer_that_is_not_finite_is_named(prepared, layer, value, expected):
    loss, state, batch = prepared
    filled = jax.tree.map(lambda p: jnp.full_like(p, value), state.params[layer])
    state = state.replace(params=dict(state.params) | {layer: filled})
    assert first_nonfinite(loss, state, batch) == expected


def test_images_come_before_the_layers(prepared):
    loss, state, batch = prepared
    batch = batch | {"image": batch["image"].at[0, 0, 0, 0].set(jnp.inf)}
    assert first_nonfinite(loss, state, batch) == "the images"


def test_report_has_the_scales_of_every_layer(prepared):
    loss, state, batch = prepared
    lines = scale_report(loss, state, batch).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(loss.model.preactivations.values())
    rms, gradient = (float(x) for x in lines[1].split()[1:])
    assert rms > 0
    assert gradient > 0
    # The normalisation before it takes the scale of the kernel out, forwards and backwards.
    larger = jax.tree.map(lambda p: 10 * p, state.params["conv1_1"])
    state = state.replace(params=dict(state.params) | {"conv1_1": larger})
    later = scale_report(loss, state, batch).splitlines()[1]
    assert [float(x) for x in later.split()[1:]] == pytest.approx([rms, gradient], rel=0.02)


# --- NaN put into an image, a parameter or a gradient at a chosen step ----------------------------

STEP = 3  # the one that goes wrong, counted from 1


def root_of_size(x: jax.Array) -> jax.Array:
    """Finite everywhere, with a gradient that is not at zero."""
    return jnp.sqrt(jnp.abs(x))


@pytest.fixture
def config(small_run, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "root", root_of_size)
    monkeypatch.setitem(GAINS, "root", 1.0)
    monkeypatch.setitem(setup.build.__globals__, "make_train_augment", marked_is_nan)
    stages = "--config.model.stages=('3-4','3-4 x2','3-8')"
    return small_run(stages, spec="configs/vgg11.py:digits")


def marked_is_nan(data, source):
    """Makes the augmentation that turns a white image into NaN."""
    del source

    def augment(keys: jax.Array, images: jax.Array) -> jax.Array:
        white = jnp.all(images == 255, axis=(1, 2, 3), keepdims=True)
        return jnp.where(white, jnp.nan, images / 255.0 - 0.5)

    return augment


def in_an_image(state, batch):
    return state, batch | {"image": batch["image"].at[5].set(255)}


def in_a_parameter(state, batch):
    kernel = state.params["conv2_2"]["kernel"].at[0, 0, 0, 0].set(jnp.inf)
    layer = state.params["conv2_2"] | {"kernel": kernel}
    return state.replace(params=state.params | {"conv2_2": layer}), batch


def in_a_gradient(state, batch):
    dead = jax.tree.map(lambda leaf: leaf.at[..., 0].set(0), state.params["conv3_1"])
    return state.replace(params=state.params | {"conv3_1": dead}), batch


@pytest.mark.parametrize(
    ("inject", "activation", "named"),
    [
        (in_an_image, "relu", "the images"),
        (in_a_parameter, "relu", "the parameter conv2_2/kernel"),
        (in_a_gradient, "root", "the gradient of conv3_1"),
    ],
)
def test_is_found_at_its_step_and_nothing_is_overwritten(config, inject, activation, named):
    config.model.activation = activation
    run = setup.build(config)
    state = setup.first_state(run, config)
    watch = Watch(config, run, lambda: "no checkpoint")
    for step, batch in run.feed(0, STEP):
        if step == STEP:
            state, batch = inject(state, batch)
            watch._batch = lambda step, batch=batch: setup.augmented(  # what this step was fed
                run.augment, config.seed, step, batch
            )
        before = jax.device_get(state)
        state, metrics = run.advance(state, batch)
        loss, norm = float(metrics["loss"]), float(metrics["gradient_norm"])
        if step < STEP:
            watch.check(state, step, loss, norm)
    with pytest.raises(NonFiniteError, match=f"^step {STEP}: .*not finite: {named}"):
        watch.check(state, STEP, loss, norm)
    # Neither that step nor a later one, with data that is in order, changes what led there.
    (_, later), *_ = run.feed(STEP, STEP + 1)
    for after in (state, run.advance(jax.tree.map(jnp.copy, state), later)[0]):
        assert not bool(after.healthy)
        assert int(after.step) == STEP - 1
        for kind in ("params", "opt_state"):
            old, new = (jax.tree.leaves(getattr(s, kind)) for s in (before, after))
            assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(old, new, strict=True))
