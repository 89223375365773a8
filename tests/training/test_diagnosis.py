"""The layer that is named is the one that went first."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.training.conftest import SIZE
from vgg_jax.training.diagnosis import first_nonfinite, scale_report
from vgg_jax.training.state import init_variables, new_state
from vgg_jax.training.steps import TrainLoss, augmented


@pytest.fixture
def prepared(tiny_vgg, augment, batch_of):
    model = tiny_vgg(norm="batch")
    state = new_state(init_variables(model, 0, SIZE), optax.sgd(0.1), with_ema=False)
    return TrainLoss(model, seed=0), state, augmented(augment, 0, 0, batch_of(4))


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
