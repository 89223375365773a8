"""Style transfer: the objective, and the optimisers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.evaluation.nets import tiny_weights
from vgg_jax import extract_features
from vgg_jax.errors import UserError
from vgg_jax.features.perceptual import feature_loss, gram_matrix, style_loss
from vgg_jax.features.style import minimize, total_variation, transfer_objective

RNG = np.random.default_rng(0)
CONTENT = RNG.integers(0, 256, (12, 16, 3), np.uint8)
STYLE = RNG.integers(0, 256, (9, 20, 3), np.uint8)
LAYERS = {"content_layer": "relu2_1", "style_layers": ("relu1_1", "relu2_1")}


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


def test_objective_by_its_parts(weights):
    objective = transfer_objective(weights, CONTENT, STYLE, content_weight=3.0, **LAYERS)
    picture = RNG.integers(0, 256, CONTENT.shape, np.uint8)
    loss, gradient = objective(jnp.asarray(picture, jnp.float32))
    assert gradient.shape == CONTENT.shape

    here, content, style = (
        extract_features(weights, each[None], ["relu1_1", "relu2_1"])
        for each in (picture, CONTENT, STYLE)
    )
    grams = {name: gram_matrix(values) for name, values in style.items()}
    wanted = 3 * feature_loss(here, {"relu2_1": content["relu2_1"]})
    wanted += 1000 * style_loss(here, grams)
    np.testing.assert_allclose(loss, wanted, rtol=1e-4)


def test_total_variation():
    assert total_variation(jnp.full((4, 5, 3), 7.0)) == 0
    ramp = jnp.arange(4.0)[:, None, None] * 3 + jnp.arange(5.0)[None, :, None] * 2
    assert total_variation(ramp + jnp.zeros(3)) == pytest.approx(9 + 4)


def test_total_variation_is_a_part_of_the_objective(weights):
    picture = jnp.asarray(STYLE[:, :16], jnp.float32)
    content = STYLE[:, :16]
    losses = [
        float(transfer_objective(weights, content, STYLE, variation_weight=w, **LAYERS)(picture)[0])
        for w in (0.0, 2.0)
    ]
    added = 2 * float(total_variation(picture))
    assert losses[1] - losses[0] == pytest.approx(added, rel=1e-3)


def test_the_content_in_its_own_style_is_a_minimum(weights):
    loss, gradient = transfer_objective(weights, CONTENT, CONTENT, **LAYERS)(
        jnp.asarray(CONTENT, jnp.float32)
    )
    assert loss < 1e-6
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_pictures_improve(weights, optimizer):
    objective = transfer_objective(weights, CONTENT, STYLE, **LAYERS)
    steps = list(itertools.islice(minimize(objective, CONTENT, optimizer=optimizer), 20))
    start = float(objective(jnp.asarray(CONTENT, jnp.float32))[0])
    losses = [step.loss for step in steps]
    assert [step.iteration for step in steps] == list(range(1, 21))
    assert losses[-1] < 0.5 * start
    assert losses[-1] == pytest.approx(float(objective(jnp.asarray(steps[-1].picture))[0]))
    if optimizer == "lbfgs":
        assert losses == sorted(losses, reverse=True)


@jax.jit
def rosenbrock(picture):
    def value(picture):
        x = picture.ravel()
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    return jax.value_and_grad(value)(picture)


def test_lbfgs_follows_a_curved_valley_to_its_end():
    *_, last = itertools.islice(minimize(rosenbrock, np.zeros((1, 2, 3))), 200)
    np.testing.assert_allclose(last.picture, 1, atol=1e-3)


def test_lbfgs_stops_where_nothing_helps():
    assert list(minimize(rosenbrock, np.ones((1, 2, 3)))) == []


def test_unknown_names(weights):
    with pytest.raises(UserError, match="unknown optimizer 'sgd'"):
        next(minimize(rosenbrock, CONTENT, optimizer="sgd"))
    with pytest.raises(UserError, match="unknown endpoint 'relu4_2'"):
        transfer_objective(weights, CONTENT, STYLE)
