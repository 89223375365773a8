"""The loss around a point, where it is known."""

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.probes.landscape import (
    along_gradient,
    filter_normalized,
    global_norm,
    loss_surface,
)

DISTANCES = jnp.asarray([0.1, 0.5, 2.0])


def test_along_the_gradient_of_a_quadratic_form():
    eigenvalues = jnp.asarray([1.0, 4.0])
    found = along_gradient(lambda x: jnp.sum(eigenvalues * x**2) / 2, jnp.ones(2), DISTANCES)
    direction = np.asarray([1.0, 4.0]) / np.sqrt(17)
    points = 1 - np.asarray(DISTANCES)[:, None] * direction
    np.testing.assert_allclose(found.loss, (points**2 @ np.asarray([1.0, 4.0])) / 2, rtol=1e-5)
    smoothness = np.linalg.norm(np.asarray([1.0, 4.0]) * direction)  # |H u|, at any distance
    np.testing.assert_allclose(found.smoothness, smoothness, rtol=1e-5)
    np.testing.assert_allclose(found.gradient_change, smoothness * DISTANCES, rtol=1e-5)


def test_a_linear_loss_has_a_gradient_that_does_not_change():
    found = along_gradient(lambda x: 3 * jnp.sum(x["a"]), {"a": jnp.ones(4)}, DISTANCES)
    np.testing.assert_allclose(found.loss, 12 - 6 * np.asarray(DISTANCES), rtol=1e-5)
    np.testing.assert_allclose(found.gradient_change, 0, atol=1e-6)


def test_filter_normalized():
    params = {
        "kernel": jax.random.normal(jax.random.key(0), (3, 3, 2, 5)).at[..., 0].set(0),
        "bias": jnp.ones(5),
    }
    direction = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), params)
    scaled = filter_normalized(direction, params)
    np.testing.assert_array_equal(scaled["bias"], 0)

    def norms(kernel):
        return np.linalg.norm(np.asarray(kernel).reshape(-1, 5), axis=0)

    np.testing.assert_allclose(norms(scaled["kernel"]), norms(params["kernel"]), rtol=1e-5)
    assert norms(scaled["kernel"])[0] == 0
    again = filter_normalized(jax.tree.map(lambda d: 7 * d, direction), params)
    np.testing.assert_allclose(again["kernel"], scaled["kernel"], rtol=1e-5)


def test_loss_surface_of_a_plane_and_a_bowl():
    coordinates = jnp.asarray([-1.0, 0.0, 2.0])
    directions = (jnp.asarray([1.0, 0.0]), jnp.asarray([0.0, 1.0]))
    found = loss_surface(
        lambda x: x[0] + x[1] ** 2, jnp.asarray([5.0, 0.0]), directions, coordinates
    )
    expected = 5 + np.asarray(coordinates)[:, None] + np.asarray(coordinates)[None] ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_global_norm():
    np.testing.assert_allclose(global_norm({"a": jnp.full(4, 2.0), "b": jnp.asarray(3.0)}), 5)
