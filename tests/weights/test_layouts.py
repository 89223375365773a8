"""Turning axes is exact, both ways; what does not fit a layout is named."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.weights import files
from tests.weights.nets import network
from vgg_jax.errors import UserError
from vgg_jax.models import build_model
from vgg_jax.weights.layouts import Contents, layer_specs, our_tensors, tensor_spec
from vgg_jax.weights.torchvision import torchvision_specs


@pytest.mark.parametrize("matrix", [True, False])
@pytest.mark.parametrize("order", ["OIHW", "HWIO"])
def test_every_value_of_a_kernel_lands_where_its_order_says(order, matrix):
    height, width, features_in, features_out = shape = (2, 3, 4, 5)
    spec = tensor_spec("x", shape, kernel_order=order, matrix=matrix)
    theirs = np.arange(np.prod(shape), dtype=np.float32).reshape(spec.shape)
    ours = spec.to_ours(theirs)
    assert ours.shape == shape
    inputs = height * width * features_in
    if matrix:
        assert spec.shape == ((features_out, inputs) if order == "OIHW" else (inputs, features_out))
    for h, w, i, o in np.ndindex(shape):
        if order == "OIHW":
            place, flat = (o, i, h, w), (o, (i * height + h) * width + w)
        else:
            place, flat = (h, w, i, o), ((h * width + w) * features_in + i, o)
        assert ours[h, w, i, o] == theirs[flat if matrix else place]
    np.testing.assert_array_equal(spec.from_ours(ours), theirs)


def test_a_vector_stays_as_it_is():
    spec = tensor_spec("x", (3,), kernel_order="OIHW")
    ours = spec.to_ours(np.array([1, 2, 3], np.float16))
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, [1, 2, 3])
    np.testing.assert_array_equal(spec.from_ours(ours), [1, 2, 3])


def contents_of(state: files.Arrays) -> Contents:
    return Contents(state, torchvision_specs(network("A")), "OIHW", {})


def test_tensors_are_taken_out_as_they_are_turned():
    contents = contents_of(files.torch_state("A", "none", "torchvision"))
    tensors = our_tensors(contents, "net")
    assert contents.arrays == {}  # each is held once
    assert tensors.keys() == contents.specs.keys()
    assert tensors["fc6/kernel"].shape == (2, 2, 16, 6)


def test_half_precision_of_any_kind_is_read():
    state = files.torch_state("A", "none", "torchvision")
    for dtype in (np.float16, jnp.bfloat16, np.float64):
        halved = {name: array.astype(dtype) for name, array in state.items()}
        tensors = our_tensors(contents_of(halved), "net")
        assert {array.dtype for array in tensors.values()} == {np.dtype(np.float32)}
        np.testing.assert_allclose(tensors["fc8/bias"], state["classifier.6.bias"], rtol=0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.8.bias": None}, r"missing: features\.8\.bias"),
        ({"extra": np.zeros(3, np.float32)}, "unknown: extra"),
        (
            {"features.3.weight": np.zeros((4, 3, 3, 3), np.float32)},
            r"features\.3\.weight has shape \(4, 3, 3, 3\), not \(4, 2, 3, 3\)",
        ),
        ({"features.8.bias": np.zeros(8, np.int32)}, r"features\.8\.bias .* type int32"),
    ],
)
def test_wrong_tensors_are_named(change, message):
    state = files.torch_state("A", "none", "torchvision") | change
    state = {name: array for name, array in state.items() if array is not None}
    with pytest.raises(UserError, match=message):
        our_tensors(contents_of(state), "net")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variant": "A-LRN"}, "use variant A"),
        ({"head": "linear", "head_features": None}, "three fully connected layers"),
        ({"head_features": (6,)}, "three fully connected layers"),
        ({"pooling": "average"}, "pooling 'max', not 'average'"),
        ({"activation": "tanh"}, "activation 'relu', not 'tanh'"),
        ({"residual": True}, "residual False, not True"),
        ({"norm": "batch"}, "no place for bn1_1"),
    ],
)
def test_networks_without_published_weights(fields, message):
    model = build_model(files.model_fields("A") | fields, image_size=files.SIDE)
    names = {name: name for name in model.layer_names}
    leaves = {"kernel": "W", "bias": "b"}
    with pytest.raises(UserError, match=message):
        layer_specs(model, names, leaves, separator="/", kernel_order="HWIO")
