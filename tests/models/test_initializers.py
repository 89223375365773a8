import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.nets import forward, random_images, small_vgg
from vgg_jax.errors import UserError
from vgg_jax.models.initializers import (
    INITIALIZERS,
    as_matrix,
    get_initializer,
    register_initializer,
)

CONV = (3, 3, 64, 128)
FAN_IN, FAN_OUT = 9 * 64, 9 * 128
VARIANCES = {
    "paper": 1e-4,
    "paper_variance": 1e-2,
    "lecun": 1 / FAN_IN,
    "glorot_normal": 2 / (FAN_IN + FAN_OUT),
    "glorot_uniform": 2 / (FAN_IN + FAN_OUT),
    "he_fan_in": 2 / FAN_IN,
    "he_fan_out": 2 / FAN_OUT,
    "orthogonal": 2 / FAN_IN,  # 128 columns of norm sqrt(2) in 576 dimensions
    "lsuv": 1 / FAN_IN,
    "torchvision": 2 / FAN_OUT,
    "chengyangfu": 2 / FAN_OUT,
}
HAVE_GAIN = (
    "he_fan_in",
    "he_fan_out",
    "orthogonal",
    "delta_orthogonal",
    "torchvision",
    "chengyangfu",
)


def sample(name: str, shape: tuple[int, ...], activation: str = "relu") -> np.ndarray:
    initializer = get_initializer(name, activation)
    draw = jax.jit(lambda key: initializer(key, shape, jnp.float32))
    return np.array(draw(jax.random.key(3)))


def singular_values(kernel: np.ndarray) -> np.ndarray:
    return np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_and_mean(name: str) -> None:
    kernel = sample(name, CONV)
    # 73,728 samples: the standard error of the standard deviation is 0.3%.
    np.testing.assert_allclose(kernel.std(), VARIANCES[name] ** 0.5, rtol=0.02)
    assert abs(kernel.mean()) < 5 * kernel.std() / kernel.size**0.5


@pytest.mark.parametrize("name", ["paper", "lecun", "glorot_normal", "he_fan_in", "he_fan_out"])
def test_normal_is_not_truncated(name: str) -> None:
    kernel = sample(name, CONV)
    assert np.abs(kernel).max() > 3.5 * kernel.std()
    np.testing.assert_allclose((kernel**4).mean() / kernel.std() ** 4, 3, rtol=0.05)


def test_uniform_bound() -> None:
    bound = math.sqrt(6 / (FAN_IN + FAN_OUT))
    kernel = sample("glorot_uniform", CONV)
    assert 0.999 * bound < np.abs(kernel).max() <= bound


@pytest.mark.parametrize("name", INITIALIZERS)
def test_gain_follows_the_activation_where_theory_says_so(name: str) -> None:
    gain = 2**0.5 if name in HAVE_GAIN else 1.0
    relu, tanh = (sample(name, (3, 3, 4, 8), activation) for activation in ("relu", "tanh"))
    np.testing.assert_allclose(relu, tanh * gain, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "linear"])
def test_gain_is_one_but_for_relu(activation: str) -> None:
    np.testing.assert_allclose(
        sample("he_fan_in", (3, 3, 8, 8), activation), sample("lecun", (3, 3, 8, 8)), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["glorot_normal", "he_fan_out"])
def test_window_of_a_fully_connected_layer_counts_as_its_inputs_only(name: str) -> None:
    shape = (7, 7, 16, 256)
    kernel = as_matrix(get_initializer(name))(jax.random.key(0), shape, jnp.float32)
    fan_in, fan_out = 7 * 7 * 16, 256
    variance = 2 / (fan_in + fan_out) if name == "glorot_normal" else 2 / fan_out
    assert kernel.shape == shape
    np.testing.assert_allclose(kernel.std(), variance**0.5, rtol=0.02)


@pytest.mark.parametrize(
    ("name", "deviation", "kurtosis"),
    [("torchvision", 0.01, 3), ("chengyangfu", (3 * 7 * 7 * 16) ** -0.5, 1.8)],
)
def test_fully_connected_layers_start_as_in_pytorch(
    name: str, deviation: float, kurtosis: float
) -> None:
    kernel = as_matrix(get_initializer(name))(jax.random.key(0), (7, 7, 16, 256), jnp.float32)
    np.testing.assert_allclose(kernel.std(), deviation, rtol=0.02)
    # 3 of a normal, 1.8 of a uniform distribution.
    np.testing.assert_allclose((kernel**4).mean() / kernel.std() ** 4, kurtosis, rtol=0.05)


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (3, 3, 4, 64), (1, 1, 16, 16), (32, 16)])
def test_orthogonal_has_equal_singular_values(shape: tuple[int, ...]) -> None:
    np.testing.assert_allclose(singular_values(sample("orthogonal", shape, "linear")), 1, rtol=1e-5)
    np.testing.assert_allclose(singular_values(sample("orthogonal", shape)), 2**0.5, rtol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_delta_orthogonal_is_an_orthogonal_centre_tap(kernel_size: int) -> None:
    kernel = sample("delta_orthogonal", (kernel_size, kernel_size, 8, 16), "tanh")
    centre = kernel[kernel_size // 2, kernel_size // 2].copy()
    np.testing.assert_allclose(np.linalg.svd(centre, compute_uv=False), 1, rtol=1e-5)
    kernel[kernel_size // 2, kernel_size // 2] = 0
    assert not kernel.any()


def test_delta_orthogonal_matrix_and_its_limit() -> None:
    np.testing.assert_allclose(
        sample("delta_orthogonal", (32, 16)), sample("orthogonal", (32, 16)), rtol=1e-6
    )
    with pytest.raises(UserError, match="in <= out"):
        sample("delta_orthogonal", (3, 3, 16, 8))


def test_delta_orthogonal_linear_net_keeps_every_norm() -> None:
    model = small_vgg(
        stages=("3-8 x12",),
        head_window=4,
        activation="linear",
        pooling="none",
        kernel_init="delta_orthogonal",
    )
    images = random_images(3)
    _, endpoints = forward(model, jax.jit(model.init)(jax.random.key(0), images), images)
    norms = jnp.sum(endpoints["conv1_12"] ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(norms, jnp.sum(images**2, axis=(1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_a_network_starts_from_it_with_zero_biases(name: str) -> None:
    model = small_vgg(kernel_init=name, stages=("3-16",), head_window=4)
    params = jax.jit(model.init)(jax.random.key(0), random_images(2))["params"]
    for layer in ("conv1_1", "fc8"):
        assert not params[layer]["bias"].any()
    kernel = params["conv1_1"]["kernel"]
    np.testing.assert_allclose(kernel.std(), sample(name, (3, 3, 3, 16)).std(), rtol=0.2)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"unknown kernel_init 'he'[\s\S]*he_fan_in"):
        get_initializer("he")
    with pytest.raises(UserError, match=r"unknown activation 'gelu'[\s\S]*relu"):
        get_initializer("paper", "gelu")


def test_built_in_names_cannot_be_registered():
    with pytest.raises(UserError, match="built in"):
        register_initializer("he_fan_in", lambda gain: jax.nn.initializers.zeros)
