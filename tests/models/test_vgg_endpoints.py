"""Endpoints by name, and gradients with respect to them by perturbations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.nets import cross_entropy, forward, he_start, random_images, small_vgg
from vgg_jax.errors import UserError


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (
            {"stages": ("3-4, LRN", "3-8 x2"), "head": "cifar", "head_features": (6, 6)},
            "conv1_1 relu1_1 lrn1_1 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2 "
            "fc6 relu6 fc7 relu7 fc8",
        ),
        (
            {"stages": ("3-4 x2, 1-4",), "norm": "batch", "residual": True, "head": "linear"},
            "conv1_1 bn1_1 relu1_1 conv1_2 bn1_2 add1_2 relu1_2 conv1_3 bn1_3 add1_3 relu1_3 "
            "pool1 fc8",
        ),
    ],
)
@pytest.mark.parametrize("remat", [False, True])
def test_endpoints_are_complete(fields: dict[str, Any], names: str, remat: bool) -> None:
    model = small_vgg(**fields, remat=remat)
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    (_, endpoints), _ = jax.eval_shape(
        lambda images: model.init_with_output(jax.random.key(0), images), images
    )
    assert set(endpoints) == set(names.split())
    assert set(model.preactivations.values()) <= set(endpoints)


def test_preactivations_are_what_the_activation_sees() -> None:
    model = small_vgg(norm="batch", residual=True, head="cifar", head_features=(6, 6))
    images = random_images(2)
    _, endpoints = forward(model, he_start(model, images), images)
    assert model.preactivations["conv2_1"] == "bn2_1"
    assert model.preactivations["conv2_2"] == "add2_2"
    assert tuple(model.preactivations) == model.layer_names
    for layer, name in model.preactivations.items():
        if layer != "fc8":
            activated = endpoints[layer.replace("conv", "relu").replace("fc", "relu")]
            np.testing.assert_allclose(activated, jax.nn.relu(endpoints[name]))


@pytest.mark.parametrize("remat", [False, True])
def test_gradient_of_a_perturbation_is_that_of_the_endpoint(remat: bool) -> None:
    model = small_vgg(head="cifar", head_features=(6, 6), remat=remat)
    images, labels = random_images(4), jnp.array([0, 1, 2, 0])
    variables = he_start(model, images)
    logits, endpoints = forward(model, variables, images)
    names = ("conv1_2", "relu1_2", "conv2_1", "fc7", "fc8")
    zeros = {name: jnp.zeros_like(endpoints[name]) for name in names}

    @jax.jit
    def grads(params: Any, perturbations: Any) -> Any:
        def loss(params: Any, perturbations: Any) -> jax.Array:
            logits, _ = model.apply({"params": params}, images, perturbations=perturbations)
            return cross_entropy(logits, labels)

        return jax.grad(loss, argnums=(0, 1))(params, perturbations)

    params, perturbed = grads(variables["params"], zeros)
    softmax = (jax.nn.softmax(logits) - jax.nn.one_hot(labels, 3)) / 4
    np.testing.assert_allclose(perturbed["fc8"][:, 0, 0], softmax, rtol=1e-4, atol=1e-6)
    active = endpoints["conv1_2"] > 0
    np.testing.assert_allclose(
        perturbed["conv1_2"], perturbed["relu1_2"] * active, rtol=1e-4, atol=1e-7
    )
    for name in ("conv1_2", "conv2_1", "fc7", "fc8"):
        summed = perturbed[name].sum((0, 1, 2))
        np.testing.assert_allclose(summed, params[name]["bias"], rtol=1e-4, atol=1e-6)


def test_a_perturbation_is_added_and_seen() -> None:
    model = small_vgg()
    images = random_images(2)
    variables = he_start(model, images)
    _, before = forward(model, variables, images)
    _, after = model.apply(variables, images, perturbations={"conv2_1": jnp.float32(0.5)})
    np.testing.assert_allclose(after["conv2_1"], before["conv2_1"] + 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after["pool1"], before["pool1"])
    assert (np.asarray(after["fc8"]) != before["fc8"]).any()
    with pytest.raises(UserError, match="unknown endpoint 'conv9_1'"):
        model.apply(variables, images, perturbations={"conv9_1": jnp.float32(0)})
