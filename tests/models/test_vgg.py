import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from jax.lax import Precision

from tests.models.nets import (
    cross_entropy,
    forward,
    he_start,
    random_images,
    small_vgg,
    train_forward,
)
from vgg_jax.errors import UserError
from vgg_jax.models.fields import ACTIVATIONS, HEADS, NORMS
from vgg_jax.models.variants import VARIANTS
from vgg_jax.models.vgg import VGG


def train_apply(model: VGG, variables: Any, images: jax.Array) -> Any:
    return model.apply(
        variables,
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(1)},
    )


def assert_trees_close(actual: Any, wanted: Any, rtol: float = 1e-5) -> None:
    """Every leaf within rtol of its largest value."""

    def compare(a: jax.Array, b: jax.Array) -> None:
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max() + 1e-6)

    jax.tree.map(compare, actual, wanted)


# --- Every network ---------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("variant", [*VARIANTS, "plain-22"])
def test_every_network_builds(variant: str, norm: str, head: str) -> None:
    """At full width, by shapes alone; test_goldens.py has the values."""
    model = VGG(variant=variant, norm=norm, head=head, head_window=1, num_classes=10)
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
    (logits, _), variables = jax.eval_shape(
        lambda images: model.init_with_output(jax.random.key(0), images), images
    )
    assert logits.shape == (4, 10)
    params, stats = variables["params"], variables.get("batch_stats", {})
    assert {name for name in params if not name.startswith("bn")} == set(model.layer_names)
    assert {name for name in params if name.startswith("bn")} == set(stats)
    assert len(stats) == (len(model.layer_names) - len(model.head_layers)) * (norm == "batch")


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("head", HEADS)
def test_a_gradient_step_lowers_the_loss(norm: str, head: str) -> None:
    hidden = None if head == "linear" else (16, 16)
    model = small_vgg(norm=norm, head=head, head_features=hidden, stages=("3-8, LRN", "3-8, 1-8"))
    images, labels = random_images(8), jnp.arange(8) % 3
    variables = he_start(model, images)

    def loss(params: Any) -> jax.Array:
        (logits, _), _ = train_apply(model, {**variables, "params": params}, images)
        return cross_entropy(logits, labels)

    value_and_grad = jax.jit(jax.value_and_grad(loss))
    params = jax.device_get(variables["params"])
    before, grads = jax.device_get(value_and_grad(params))
    norm_squared = sum(np.vdot(g, g) for g in jax.tree.leaves(grads))
    rate = 0.01 * before / norm_squared  # to first order, 1% lower
    after, _ = value_and_grad(jax.tree.map(lambda p, g: p - rate * g, params, grads))
    assert 0.98 * before < after < 0.995 * before
    for layer, leaves in grads.items():  # batch norm takes the bias before it out again
        for name, gradient in leaves.items():
            no_effect = norm == "batch" and layer.startswith("conv") and name == "bias"
            assert np.any(gradient != 0) != no_effect, (layer, name)


# --- The dense head --------------------------------------------------------------------------


def test_logits_at_224_are_matrix_products_on_the_flattened_map() -> None:
    model = VGG(variant="A", width=1 / 16, num_classes=10, head_features=(64, 64))
    images = random_images(2, 224)
    variables = he_start(model, images)
    logits, endpoints = forward(model, variables, images)
    x = np.asarray(endpoints["pool5"]).reshape(2, -1)
    assert x.shape == (2, 7 * 7 * 32)
    for name in ("fc6", "fc7", "fc8"):
        layer = variables["params"][name]
        x = x @ layer["kernel"].reshape(x.shape[1], -1) + layer["bias"]
        if name != "fc8":
            x = np.maximum(x, 0)
    np.testing.assert_allclose(logits, x, atol=1e-4)
    assert endpoints["fc6"].shape == (2, 1, 1, 64)


@pytest.mark.parametrize(("size", "side"), [(224, 1), (256, 2), (384, 6), (512, 10)])
def test_a_larger_image_gives_a_map_of_scores(size: int, side: int) -> None:
    model = VGG()
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    (logits, endpoints), _ = jax.eval_shape(
        lambda images: model.init_with_output(jax.random.key(0), images), images
    )
    assert endpoints["fc8"].shape == (1, side, side, 1000)
    assert logits.shape == (1, 1000)


def test_logits_are_the_spatial_mean_of_the_scores_with_unchanged_parameters() -> None:
    model = small_vgg(head="imagenet", head_features=(6, 5))
    variables = he_start(model, random_images(2))
    logits, endpoints = forward(model, variables, jnp.ones((2, 19, 14, 3)))
    assert endpoints["fc8"].shape == (2, 3, 2, 3)
    assert endpoints["fc6"].shape == (2, 3, 2, 6)
    np.testing.assert_allclose(logits, endpoints["fc8"].mean((1, 2)), rtol=1e-5)


# --- Fields ----------------------------------------------------------------------------------


def test_remat_changes_neither_values_nor_names() -> None:
    model = small_vgg(
        stages=("3-4", "3-8"), norm="batch", head="cifar", head_features=(6, 6), dropout=0.5
    )
    images = random_images(4)
    variables = he_start(model, images)

    def everything(model: VGG) -> Any:
        @jax.jit
        @functools.partial(jax.grad, has_aux=True)
        def grads_and_outputs(params: Any) -> Any:
            outputs = train_apply(model, {**variables, "params": params}, images)
            return outputs[0][0].var(), outputs

        return grads_and_outputs(variables["params"])

    assert_trees_close(everything(model.clone(remat=True)), everything(model))


def test_remat_keeps_little_for_the_backward_pass() -> None:
    model = small_vgg(stages=("3-8 x6", "3-8 x6"), head_window=8)
    images = random_images(16, 32)
    variables = he_start(model, images)

    def kept_bytes(model: VGG) -> int:
        def loss(params: Any) -> jax.Array:
            return model.apply({"params": params}, images)[0].sum()

        backward = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], variables["params"])
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))

    assert kept_bytes(model.clone(remat=True)) < 0.1 * kept_bytes(model)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(
    ("name", "precision"),
    [("float32", Precision.HIGHEST), ("tensorfloat32", Precision.HIGH)],
)
def test_every_product_has_the_precision_of_the_model(
    name: str, precision: Precision, remat: bool
) -> None:
    """Forwards and backwards: what is left unsaid, JAX rounds as it likes on accelerators."""
    model = small_vgg(matmul_precision=name, remat=remat, head="cifar", head_features=(8,))
    images = random_images(2)

    def loss(params: Any) -> jax.Array:
        return model.apply({"params": params}, images)[0].sum()

    shapes = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    found = list(product_precisions(jax.make_jaxpr(jax.grad(loss))(shapes).jaxpr))
    assert len(found) >= 3 * len(model.layer_names) - 1  # no gradient for the images
    assert set(found) == {(precision, precision)}


def product_precisions(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation.params["precision"]
        for inner in jaxprs_in_params(equation.params):
            yield from product_precisions(inner)


def test_residual_layers_of_zero_are_the_identity() -> None:
    model = small_vgg(stages=("3-4 x3", "3-8 x2"), residual=True)
    images = random_images(2)
    variables = he_start(model, images)
    for name in ("conv1_2", "conv1_3"):
        variables["params"][name]["kernel"] *= 0
    _, endpoints = forward(model, variables, images)
    np.testing.assert_array_equal(endpoints["relu1_3"], endpoints["relu1_1"])
    np.testing.assert_allclose(endpoints["add2_2"], endpoints["conv2_2"] + endpoints["relu2_1"])
    assert "add1_1" not in endpoints


def test_residual_needs_equal_channels_within_a_stage() -> None:
    with pytest.raises(UserError, match="residual"):
        small_vgg(stages=("3-4, 3-8",), residual=True)


@pytest.mark.parametrize(("width", "channels", "hidden"), [(0.25, 16, 1024), (1.5, 96, 6144)])
def test_width_scales_channels_and_hidden_sizes(width: float, channels: int, hidden: int) -> None:
    model = VGG(width=width)
    assert [stage[0].channels for stage in model.conv_stages] == [
        channels * factor for factor in (1, 2, 4, 8, 8)
    ]
    assert model.head_layers == {"fc6": hidden, "fc7": hidden, "fc8": 1000}
    exact = model.clone(head_features=(64, 32))
    assert exact.head_layers == {"fc6": 64, "fc7": 32, "fc8": 1000}
    assert VGG(width=1e-3).conv_stages[0][0].channels == 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("through", ["fc8", "conv1_1", "relu1_1", "pool1"])
def test_relu_and_pooling_in_one_change_no_gradient(through: str, norm: str) -> None:
    """A perturbation of zero keeps the plain order: convolution, ReLU, pooling."""
    model = small_vgg(stages=("3-4", "3-6"), norm=norm, head="linear")
    images = jnp.round(random_images(4))  # ties
    variables = he_start(model, images)

    def loss(params: Any, perturbations: Any) -> jax.Array:
        (_, endpoints), _ = model.apply(
            variables | {"params": params},
            images,
            train=True,
            perturbations=perturbations,
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.sin(endpoints[through]))

    gradient = jax.jit(jax.value_and_grad(loss))
    plain = {"pool2": jnp.zeros(())}
    assert_trees_close(gradient(variables["params"], {}), gradient(variables["params"], plain))
    assert any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient(variables["params"], {})[1]))


@pytest.mark.parametrize("pooling", ["max", "average", "none"])
def test_pooling_drops_an_odd_last_row(pooling: str) -> None:
    model = small_vgg(pooling=pooling)
    images = random_images(2, 11)
    variables = he_start(model, images)
    _, endpoints = forward(model, variables, images)
    x = np.asarray(endpoints["relu1_2"])
    windows = x[:, :10, :10].reshape(2, 5, 2, 5, 2, 4)
    expected = {
        "max": windows.max((2, 4)),
        "average": windows.mean((2, 4)),
        "none": windows[:, :, 0, :, 0],
    }[pooling]
    np.testing.assert_allclose(endpoints["pool1"], expected, rtol=1e-5, atol=1e-6)
    assert endpoints["pool2"].shape == (2, 2, 2, 8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation: str) -> None:
    model = small_vgg(activation=activation, head="imagenet", head_features=(6,))
    images = random_images(2)
    _, endpoints = forward(model, he_start(model, images), images)
    function = {
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "linear": lambda x: x,
    }[activation]
    for place in ("1_1", "2_2"):
        x = np.asarray(endpoints[f"conv{place}"])
        np.testing.assert_allclose(endpoints[f"relu{place}"], function(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        endpoints["relu6"], function(np.asarray(endpoints["fc6"])), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("norm", NORMS)
def test_bfloat16_is_close_with_float32_parameters_and_logits(norm: str) -> None:
    images = random_images(8)
    model = small_vgg(norm=norm, head="cifar", head_features=(16, 16))
    half = model.clone(dtype=jnp.bfloat16)
    variables = he_start(half, images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    (logits, endpoints), updates = train_forward(half, variables, images)
    (wanted, _), wanted_updates = train_forward(model, variables, images)
    assert logits.dtype == jnp.float32
    assert {x.dtype for x in endpoints.values()} == {np.dtype(jnp.bfloat16)}
    assert_trees_close(logits, wanted, 0.05)
    assert_trees_close(updates, wanted_updates, 0.05)


def dropped(inputs: jax.Array, outputs: jax.Array) -> str:
    """Whether `outputs` is `inputs`, or a mixture of zeros and doubled inputs."""
    inputs, outputs = np.asarray(inputs), np.asarray(outputs)
    if np.allclose(inputs, outputs):
        return "kept"
    zeros = outputs == 0
    assert np.allclose(outputs[~zeros], 2 * inputs[~zeros])
    assert 0.3 < zeros[inputs != 0].mean() < 0.7
    return "dropped"


@pytest.mark.parametrize(
    ("head", "places"),
    [("imagenet", ["kept", "dropped", "dropped"]), ("cifar", ["dropped", "dropped", "kept"])],
)
def test_dropout_is_where_the_recipe_has_it(head: str, places: list[str]) -> None:
    """With identity weights in the head, fc6, fc7 and fc8 show what enters them."""
    model = small_vgg(
        stages=("3-64",),
        head=head,
        head_window=1,
        head_features=(64, 64),
        num_classes=64,
        dropout=0.5,
    )
    images = random_images(8, 2)
    variables = he_start(model, images)
    for name in ("fc6", "fc7", "fc8"):
        variables["params"][name]["kernel"] = jnp.eye(64)[None, None]
    (_, ends), _ = train_forward(model, variables, images)
    pairs = [("pool1", "fc6"), ("relu6", "fc7"), ("relu7", "fc8")]
    assert [dropped(ends[before], ends[after]) for before, after in pairs] == places
    again, other = (train_forward(model, variables, images, seed)[0][1] for seed in (1, 2))
    np.testing.assert_array_equal(again["fc8"], ends["fc8"])
    assert (np.asarray(other["fc8"]) != ends["fc8"]).any()
    _, evaluated = forward(model, variables, images)
    assert [dropped(evaluated[before], evaluated[after]) for before, after in pairs] == ["kept"] * 3
