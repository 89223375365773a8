"""Every formulation of the convolution against the library's, to the second order."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.ops.convolutions import (
    assert_same,
    gradients,
    library,
    library_results,
    loss,
    operands,
    output_and_gradients,
)
from vgg_jax.ops import conv
from vgg_jax.ops.platforms import every_platform

# Reaches every formulation: (N, H, W, C_in, C_out, K).
SHAPES = {
    "odd map": (2, 7, 9, 3, 5, 3),
    "many rows": (2, 6, 15, 32, 4, 3),
    "5x5 kernel": (2, 8, 15, 32, 3, 5),
    "winograd": (3, 8, 7, 64, 65, 3),
    "1x1 kernel": (2, 5, 6, 4, 3, 1),
    "4x4 map": (2, 4, 4, 17, 3, 3),
    "2x2 map": (3, 2, 2, 4, 6, 3),
    "2x1 map, 5x5 kernel": (2, 2, 1, 4, 6, 5),
    "2x2 map, many images": (64, 2, 2, 3, 4, 3),
    "2x1 map, 5x5 kernel, many images": (64, 2, 1, 3, 4, 5),
    "1x1 map": (2, 1, 1, 4, 3, 3),
    "one image": (1, 6, 6, 40, 40, 3),
}


def forward_over_reverse(convolve: Callable) -> Callable:
    def directional(images: jax.Array, kernel: jax.Array) -> tuple:
        return jax.jvp(gradients(convolve), (images, kernel), (jnp.cos(images), jnp.cos(kernel)))

    return directional


def reverse_over_reverse(convolve: Callable) -> Callable:
    def squared_norm(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return sum(jnp.sum(leaf**2) for leaf in gradients(convolve)(images, kernel))

    return jax.grad(squared_norm, (0, 1))


def per_example_gradients(convolve: Callable) -> Callable:
    def each(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.vmap(jax.grad(loss(convolve), 1), (0, None))(images[:, None], kernel)

    return each


def many_kernels(convolve: Callable) -> Callable:
    def each(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return jax.vmap(convolve, (None, 0))(images, jnp.stack([kernel, 2 * kernel]))

    return each


def rematerialised(convolve: Callable) -> Callable:
    return jax.grad(jax.checkpoint(loss(convolve)), (0, 1))


TRANSFORMATIONS = [
    gradients,
    forward_over_reverse,
    reverse_over_reverse,
    per_example_gradients,
    many_kernels,
    rematerialised,
]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equals_the_library_in_float64(shape: tuple[int, ...]) -> None:
    with jax.enable_x64(True):
        images, kernel = operands(shape, "float64")
        actual = output_and_gradients(conv.conv2d)(images, kernel)
        assert_same(actual, library_results(shape), 1e-10)


@pytest.mark.parametrize("transform", TRANSFORMATIONS)
@pytest.mark.parametrize("name", ["winograd", "2x2 map", "many rows"])
def test_transformations_equal_the_library(name: str, transform: Callable) -> None:
    with jax.enable_x64(True):
        images, kernel = operands(SHAPES[name], "float64")
        actual = jax.jit(transform(conv.conv2d))(images, kernel)
        assert_same(actual, jax.jit(transform(library))(images, kernel), 1e-10)


def test_derivatives_agree_without_jit() -> None:
    images, kernel = operands(SHAPES["odd map"], "float32")
    assert_same(gradients(conv.conv2d)(images, kernel), gradients(library)(images, kernel), 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("channels", [64, 512])
def test_rounding_error_at_the_networks_widths(channels: int, dtype: str, tolerance: float) -> None:
    shape = (2, 4, 4, channels, 64, 3) if channels == 512 else (2, 8, 8, channels, 64, 3)
    images, kernel = operands(shape, dtype)
    exact = [leaf.astype("float32") for leaf in (images, kernel)]
    output, *actual = output_and_gradients(conv.conv2d)(images, kernel)
    wanted, *all_desired = output_and_gradients(library)(*exact)
    assert output.dtype == images.dtype
    assert_same(output, wanted, tolerance)
    assert [leaf.dtype for leaf in actual] == [images.dtype] * 2
    for leaf, desired in zip(actual, all_desired, strict=True):
        difference = np.asarray(leaf, np.float32) - np.asarray(desired)
        assert np.linalg.norm(difference) < tolerance * np.linalg.norm(desired)


@pytest.mark.parametrize(
    "shape", [(6, 9, 7, 3, 2, 3), (1, 1, 2, 3, 4, 3), (2, 7, 5, 4, 3, 3), (4, 6, 4, 2, 3, 3)]
)
@pytest.mark.parametrize("elements", [1, 500, 2000])
def test_patches_equal_the_library(
    shape: tuple[int, ...], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In strips of one row and of several, and of several images."""
    monkeypatch.setattr(conv, "_PATCH_ELEMENTS", elements)
    with jax.enable_x64(True):
        images, kernel = operands(shape, "float64")
        actual = output_and_gradients(conv.patches)(images, kernel)
        assert_same(actual, library_results(shape), 1e-10)


def test_the_choice_follows_the_shape() -> None:
    """What the comments in ops/conv.py say, at VGG-16's own layers."""
    assert conv.along_images((128, 8, 8, 256), (3, 3, 256, 256)) is conv.winograd
    assert conv.along_images((8, 224, 224, 64), (3, 3, 64, 64)) is conv.library
    assert conv.along_images((128, 2, 2, 512), (3, 3, 512, 512)) is conv.positions
    assert conv.along_kernel((8, 224, 224, 64), (3, 3, 64, 64)) is conv.winograd
    assert conv.along_kernel((8, 32, 32, 3), (3, 3, 3, 64)) is conv.patches
    assert conv.along_kernel((8, 32, 32, 3), (5, 5, 3, 64)) is conv.library
    assert conv.along_kernel((8, 112, 112, 128), (3, 3, 128, 128)) is conv.winograd
    assert conv.along_kernel((8, 14, 14, 512), (3, 3, 512, 512)) is conv.winograd
    assert conv.along_images((128, 4, 4, 512), (3, 3, 512, 512)) is conv.winograd
    assert conv.along_images((16, 4, 4, 512), (3, 3, 512, 512)) is conv.taps
    assert conv.along_images((16, 2, 2, 512), (3, 3, 512, 512)) is conv.taps
    assert conv.along_images((8, 56, 56, 256), (1, 1, 256, 256)) is conv.taps
    # One image is too few tiles for the kernel's transform to pay.
    assert conv.along_images((1, 28, 28, 512), (3, 3, 512, 512)) is conv.library


@pytest.mark.parametrize("name", ["winograd", "many rows"])
def test_the_batch_may_be_sharded(name: str) -> None:
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.enable_x64(True):
        images, kernel = operands((2 * len(devices), *SHAPES[name][1:]), "float64")
        sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
        desired = jax.jit(gradients(library))(images, kernel)
        assert_same(jax.jit(gradients(conv.conv2d))(sharded, kernel), desired, 1e-10)
        mapped = jax.pmap(gradients(conv.conv2d), in_axes=(0, None))
        parts = mapped(images.reshape(len(devices), 2, *images.shape[1:]), kernel)
        assert_same(parts[0].reshape(images.shape), desired[0], 1e-10)
        assert_same(parts[1].sum(0), desired[1], 1e-10)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_run_the_library_operation(platform: str) -> None:
    images, kernel = operands((4, 8, 8, 64, 64, 3), "float32")
    with every_platform():
        traced = jax.jit(gradients(conv.conv2d)).trace(images, kernel)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    # Forward, gradient with respect to the images and to the kernel; nothing else is chosen.
    assert text.count("stablehlo.convolution") == 3
    assert not any(
        f"stablehlo.{name}" in text for name in ("while", "dot_general", "optimization_barrier")
    )


def test_the_train_step_needs_no_more_memory_than_the_library() -> None:
    """The temporary memory of two layers and their gradients."""
    images, first = operands((64, 32, 32, 16, 64, 3), "float32")
    _, second = operands((64, 32, 32, 64, 64, 3), "float32")

    def temporaries(convolve: Callable) -> int:
        def objective(first: jax.Array, second: jax.Array) -> jax.Array:
            return jnp.sum(convolve(jax.nn.relu(convolve(images, first)), second) ** 2)

        compiled = jax.jit(jax.grad(objective, (0, 1))).lower(first, second).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # The transformed tiles of a part cost as much as a few of its images.
    assert temporaries(conv.conv2d) <= 1.5 * temporaries(library)


def test_layers_of_one_shape_are_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []

    def choose(images: tuple[int, ...], kernel: tuple[int, ...]) -> conv.Formulation:
        traced.append((images, kernel))
        return conv.library

    def loss(images: jax.Array, kernel: jax.Array) -> jax.Array:
        for _ in range(3):
            images = conv.conv2d(images, kernel)
        return images.sum()

    monkeypatch.setattr(conv, "along_images", choose)
    jax.jit(jax.grad(loss)).lower(*operands((2, 6, 6, 4, 4, 3), "float32"))
    assert traced == [((2, 6, 6, 4), (3, 3, 4, 4))]


@pytest.mark.parametrize(("width", "size"), [(4, 3), (8, 3), (16, 3), (16, 5)])
def test_row_groups_equal_the_library(width: int, size: int) -> None:
    """What GPUs run in the first layer, with its gradients."""
    with jax.enable_x64(True):
        images, kernel = operands((2, 5, width, 3, 7, size), "float64")
        ours, theirs = (output_and_gradients(f) for f in (conv.row_groups, library))
        assert_same(ours(images, kernel), theirs(images, kernel), 1e-12)


@pytest.mark.parametrize(("inputs", "convolutions"), [(3, 0), (64, 1)])
def test_on_a_gpu_the_first_layer_is_a_matrix_product(inputs: int, convolutions: int) -> None:
    images, kernel = operands((2, 8, 8, inputs, 64, 3), "bfloat16")
    with every_platform():
        lowered = jax.jit(conv.conv2d).trace(images, kernel).lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("stablehlo.convolution") == convolutions
