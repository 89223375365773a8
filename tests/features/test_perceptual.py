"""Gram matrices, Johnson's losses and LPIPS: properties that hold for any weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.evaluation.nets import tiny_weights
from tests.models.nets import he_start, random_images, small_vgg
from vgg_jax.errors import UserError
from vgg_jax.features.extractor import compute_endpoints
from vgg_jax.features.perceptual import (
    LPIPS_CHANNELS,
    feature_loss,
    gram_matrix,
    johnson_loss,
    load_lpips,
    lpips,
    lpips_distance,
    lpips_loss,
    save_lpips,
    style_grams,
    style_loss,
)

RNG = np.random.default_rng(0)
FEATURES = {
    "relu1_2": RNG.normal(size=(2, 5, 4, 6)).astype(np.float32),
    "relu2_2": RNG.normal(size=(2, 3, 2, 8)).astype(np.float32),
}
OTHERS = {name: values[::-1] + 0.5 for name, values in FEATURES.items()}
LINEAR = {
    name: RNG.uniform(size=values.shape[-1]).astype(np.float32) for name, values in FEATURES.items()
}
PICTURES = RNG.integers(0, 256, (2, 12, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


def test_gram_matrix_is_symmetric_and_positive_semidefinite():
    features = FEATURES["relu1_2"]
    gram = np.asarray(gram_matrix(features))
    assert gram.shape == (2, 6, 6)
    product = np.mean(features[1, ..., 2] * features[1, ..., 3])
    np.testing.assert_allclose(gram[1, 2, 3], product, rtol=1e-5)
    np.testing.assert_array_equal(gram, gram.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(gram.astype(np.float64)).min() > -1e-6


def test_style_does_not_see_where_and_content_does():
    shuffled = {
        name: RNG.permutation(values.reshape(2, -1, values.shape[-1]), axis=1).reshape(values.shape)
        for name, values in FEATURES.items()
    }
    grams = {name: gram_matrix(values) for name, values in FEATURES.items()}
    assert style_loss(shuffled, grams) < 1e-10
    assert style_loss(OTHERS, grams) > 1e-3
    assert feature_loss(FEATURES, FEATURES) == 0
    assert feature_loss(shuffled, FEATURES) > 0.1


def test_losses_by_their_definitions():
    grams = {name: gram_matrix(values[:1]) for name, values in OTHERS.items()}
    style = content = 0.0
    for name, values in FEATURES.items():
        channels = values.shape[-1]
        for example in values:
            flat = example.reshape(-1, channels).astype(np.float64)
            difference = flat.T @ flat / len(flat) - np.asarray(grams[name][0], np.float64)
            # Johnson's matrices, over positions and channels, as a mean over entries and examples.
            style += np.mean((difference / channels) ** 2) / 2
        content += np.mean((values.astype(np.float64) - OTHERS[name]) ** 2)
    np.testing.assert_allclose(style_loss(FEATURES, grams), style, rtol=1e-5)
    np.testing.assert_allclose(feature_loss(FEATURES, OTHERS), content, rtol=1e-5)


def test_lpips_by_its_definition():
    wanted = np.zeros(2)
    for name, values in FEATURES.items():
        units = [f / np.linalg.norm(f, axis=-1, keepdims=True) for f in (values, OTHERS[name])]
        wanted += (((units[0] - units[1]) ** 2) @ LINEAR[name]).mean((1, 2))
    found = lpips_distance(FEATURES, OTHERS, LINEAR)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def test_lpips_sees_directions_alone():
    scaled = {
        name: values * RNG.uniform(0.1, 10, (*values.shape[:3], 1)).astype(np.float32)
        for name, values in FEATURES.items()
    }
    np.testing.assert_allclose(
        lpips_distance(scaled, OTHERS, LINEAR),
        lpips_distance(FEATURES, OTHERS, LINEAR),
        rtol=1e-4,
    )
    np.testing.assert_allclose(lpips_distance(scaled, FEATURES, LINEAR), 0, atol=1e-6)


def test_lpips_has_a_gradient_where_all_features_are_zero():
    def total(features):
        return lpips_distance(features, OTHERS, LINEAR).sum()

    silent = {name: jnp.zeros_like(values) for name, values in FEATURES.items()}
    for gradient in jax.tree.leaves(jax.grad(total)(silent)):
        assert np.isfinite(gradient).all()


def test_lpips_of_pictures(weights):
    linear = {"relu1_2": np.ones(4, np.float32), "relu2_2": np.ones(8, np.float32)}
    found = lpips(PICTURES, PICTURES[::-1], weights, linear)
    np.testing.assert_allclose(lpips(PICTURES, PICTURES, weights, linear), 0, atol=1e-12)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert found[0] > 0.01
    with pytest.raises(UserError, match="pairs of one shape"):
        lpips(PICTURES, PICTURES[:1], weights, linear)
    with pytest.raises(UserError, match="relu1_2 has 4 channels, and linear weights for 5"):
        lpips(PICTURES, PICTURES, weights, linear | {"relu1_2": np.ones(5)})
    with pytest.raises(UserError, match="belong to torchvision's VGG-16"):
        lpips(PICTURES, PICTURES, weights)


def test_lpips_has_the_gradient_of_its_values(weights):
    """Alone and in a jitted step, along the gradient, by a central difference."""
    linear = {"relu1_2": np.ones(4, np.float32), "relu2_2": np.ones(8, np.float32)}
    first, second = jnp.asarray(PICTURES, jnp.float32), PICTURES[::-1]
    gradient = jax.grad(lambda x: lpips(x, second, weights, linear).sum())(first)
    named = {"model": weights.model, "preprocessing": weights.preprocessing}

    @jax.jit
    def step(variables, pictures):
        return jax.grad(lambda x: lpips_loss(variables, x, second, linear, **named).sum())(pictures)

    np.testing.assert_allclose(step(weights.variables, first), gradient, rtol=1e-4, atol=1e-8)
    move = 0.01 * gradient / jnp.abs(gradient).max()
    up, down = (lpips(first + sign * move, second, weights, linear).sum() for sign in (1, -1))
    np.testing.assert_allclose(up - down, 2 * jnp.vdot(gradient, move), rtol=0.02)


def lpips_tensors() -> dict[str, np.ndarray]:
    return {
        f"lin{index}.model.1.weight": RNG.uniform(size=(1, channels, 1, 1)).astype(np.float32)
        for index, channels in enumerate(LPIPS_CHANNELS.values())
    }


def test_lpips_file(tmp_path):
    tensors = lpips_tensors()
    safetensors.numpy.save_file(tensors, tmp_path / "vgg.safetensors")
    linear = load_lpips(tmp_path / "vgg.safetensors")
    save_lpips(tmp_path / "again.safetensors", linear)
    for name, tensor in safetensors.numpy.load_file(tmp_path / "again.safetensors").items():
        np.testing.assert_array_equal(tensor, tensors[name])
    assert {name: values.shape for name, values in linear.items()} == {
        name: (channels,) for name, channels in LPIPS_CHANNELS.items()
    }
    np.testing.assert_array_equal(linear["relu4_3"], tensors["lin3.model.1.weight"].ravel())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lin2.model.1.weight": np.ones((1, 384, 1, 1), np.float32)}, r"lin2.* has shape \(1, 38"),
        ({"lin5.model.1.weight": np.ones((1, 512, 1, 1), np.float32)}, "unknown: lin5"),
        ({"lin0.model.1.weight": -np.ones((1, 64, 1, 1), np.float32)}, "lin0.* negative"),
        ({"lin1.model.1.weight": np.full((1, 128, 1, 1), np.nan, np.float32)}, "lin1.* not finite"),
    ],
)
def test_wrong_lpips_files(tmp_path, change, message):
    path = tmp_path / "vgg.safetensors"
    safetensors.numpy.save_file(lpips_tensors() | change, path)
    with pytest.raises(UserError, match=message):
        load_lpips(path)


def test_johnson_loss_trains_pictures(weights):
    """On a small network with Johnson's layers: the sum of both, and a gradient that helps."""
    rng = np.random.default_rng(0)
    model = small_vgg(stages=("3-4", "3-4", "3-4 x3"), head_window=1)
    variables = he_start(model, random_images(1))
    style = rng.integers(0, 256, (8, 8, 3), np.uint8)
    contents = rng.integers(0, 256, (1, 8, 8, 3), np.uint8)
    named = {"model": model, "preprocessing": weights.preprocessing}
    own = dataclasses.replace(weights, model=model, variables=variables)
    grams = style_grams(own, style, ("relu1_1", "relu3_3"))

    @jax.jit
    def step(variables, pictures, contents, content_weight):
        return jax.value_and_grad(
            lambda x: johnson_loss(
                variables, x, contents, grams, content_weight=content_weight, **named
            )
        )(pictures)

    pictures = jnp.asarray(contents, jnp.float32)
    loss, gradient = step(variables, pictures, contents, 1.0)
    features = compute_endpoints(variables, contents, endpoints=tuple(grams), **named)
    np.testing.assert_allclose(loss, 5 * style_loss(features, grams), rtol=1e-4)
    better = pictures - gradient / jnp.abs(gradient).max()
    heavier, _ = step(variables, better, contents, 3.0)
    lighter, _ = step(variables, better, contents, 1.0)
    assert lighter < loss
    moved = compute_endpoints(variables, better, endpoints=tuple(grams), **named)
    content = feature_loss(moved, {"relu3_3": features["relu3_3"]})
    np.testing.assert_allclose(heavier - lighter, 2 * content, rtol=1e-3)
