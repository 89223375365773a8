"""Class model visualisation: the known maximum of a linear score, and a network's score."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.evaluation.nets import replaced, tiny_weights
from tests.models.nets import forward
from vgg_jax.errors import UserError
from vgg_jax.features.class_visualization import ascend, visualize_class


def test_the_maximum_of_a_linear_score_is_known():
    """The score w . I - decay |I|^2 is largest at w / (2 decay)."""
    kernel = jax.random.normal(jax.random.key(0), (4, 5, 3))
    score = jax.jit(jax.value_and_grad(lambda picture: jnp.vdot(kernel, picture)))
    found = ascend(score, jnp.zeros(kernel.shape), steps=200, rate=0.5, decay=0.1)
    np.testing.assert_allclose(found, kernel / 0.2, atol=0.05)


def test_a_score_without_gradient_moves_nothing():
    start = jnp.zeros((2, 2, 3))
    assert not ascend(lambda picture: (0.0, 0 * picture), start, steps=3).any()


def test_raises_the_score_of_its_class():
    weights = tiny_weights()  # without biases, grey would be a place without a gradient
    biased = jax.tree.map(lambda leaf: leaf + 0.1, weights.variables)
    weights = replaced(weights, variables=biased)
    preprocessing = weights.preprocessing
    grey = np.broadcast_to(np.float32(preprocessing.mean)[::-1], (1, 8, 8, 3))
    before, _ = forward(weights.model, weights.variables, preprocessing.normalize(grey))
    for label in (0, 2):
        picture, logit = visualize_class(weights, label, steps=20, rate=1.0)
        assert (picture.shape, picture.dtype) == ((8, 8, 3), np.uint8)
        inputs = preprocessing.normalize(picture[None])
        after, _ = forward(weights.model, weights.variables, inputs)
        assert logit > float(before[0, label]) + 0.1
        assert float(after[0, label]) == pytest.approx(logit, rel=0.01)
    with pytest.raises(UserError, match="label=3: give one of the 3 classes"):
        visualize_class(weights, 3)
