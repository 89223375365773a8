"""Parity with PyTorch in float64: logits, loss and every gradient (tests/goldens/README.md)."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from vgg_jax.models.vgg import VGG

GOLDENS = Path(__file__).parent.parent / "goldens"
CASES = tuple(sorted(path.stem for path in GOLDENS.glob("*.npz")))
DENSE = {"cifar": {"fc1": "fc8"}, "imagenet": {"fc1": "fc6", "fc2": "fc7", "fc3": "fc8"}}


class Result(NamedTuple):
    loss: Any
    logits: Any
    grads: Any
    batch_stats: Any


def model_of(case: str, dtype: Any) -> VGG:
    """The network of a golden file; the goldens' head "cifar" is one layer, our "linear"."""
    imagenet = "imagenet" in case
    return VGG(
        variant="A-LRN" if "lrn" in case else case[0].upper(),
        num_classes=10,
        width=1 / 16,
        norm="batch" if "_bn_" in case else "none",
        norm_momentum=0.0,  # the running statistics become those of the batch
        norm_epsilon=1e-5,
        head="imagenet" if imagenet else "linear",
        head_features=(64, 64) if imagenet else None,
        head_window=2 if imagenet else 1,
        dropout=0.0,
        dtype=dtype,
        param_dtype=dtype,
    )


def our_name(golden_name: str, case: str) -> str:
    """block3_conv2/kernel -> conv3_2/kernel; fc1/bias -> fc6/bias or fc8/bias."""
    layer, leaf = golden_name.split("/")
    if layer.startswith("fc"):
        return f"{DENSE['imagenet' if 'imagenet' in case else 'cifar'][layer]}/{leaf}"
    block, kind = layer.removeprefix("block").split("_")
    return f"{kind[:-1]}{block}_{kind[-1]}/{leaf}"


def tree(golden: dict[str, np.ndarray], prefix: str, case: str) -> dict[str, np.ndarray]:
    """The arrays under a prefix, by our names."""
    start = f"{prefix}/"
    return {
        our_name(key.removeprefix(start), case): array
        for key, array in golden.items()
        if key.startswith(start)
    }


@functools.cache  # those of both precisions
def shapes_of(case: str, images: tuple[int, ...]) -> Any:
    model = model_of(case, jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(images, jnp.float32))


def run(case: str, golden: dict[str, np.ndarray], dtype: Any) -> Result:
    """The same quantities by our network in the given precision."""
    model = model_of(case, dtype)
    images = jnp.asarray(golden["inputs"], dtype)
    shapes = shapes_of(case, images.shape)
    target = traverse_util.flatten_dict(shapes["params"], sep="/")
    given = {"params": tree(golden, "params", case), "batch_stats": tree(golden, "stats", case)}
    # A fully connected matrix in (height, width, channel) order is our window kernel, flattened.
    params = {
        name: np.asarray(array, dtype).reshape(target[name].shape)
        for name, array in given["params"].items()
    }
    assert params.keys() == target.keys()
    params = traverse_util.unflatten_dict(params, sep="/")
    stats = jax.tree.map(
        lambda array: jnp.asarray(array, dtype),
        traverse_util.unflatten_dict(given["batch_stats"], sep="/"),
    )
    if not stats and "batch_stats" in shapes:
        stats = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), shapes["batch_stats"])

    @jax.jit
    def loss_and_grads(params: Any) -> Any:
        def loss_fn(params: Any) -> Any:
            (logits, _), updated = model.apply(
                {"params": params, "batch_stats": stats},
                images,
                train="_eval_" not in case,
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, golden["labels"])
            return losses.mean(), (logits, updated.get("batch_stats", {}))

        return jax.value_and_grad(loss_fn, has_aux=True)(params)

    (loss, (logits, batch_stats)), grads = loss_and_grads(params)
    flat = traverse_util.flatten_dict(grads, sep="/")
    return Result(
        np.asarray(loss),
        np.asarray(logits),
        {name: np.asarray(array) for name, array in flat.items()},
        {k: np.asarray(v) for k, v in traverse_util.flatten_dict(batch_stats, sep="/").items()},
    )


def load(case: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / f"{case}.npz") as arrays:
        return dict(arrays)


def assert_close(actual: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Compares relative to the largest value of the array."""
    error = np.abs(actual - wanted.reshape(actual.shape)).max()
    assert error <= tolerance * np.abs(wanted).max()


def is_zero(name: str, case: str) -> bool:
    """Before a normalisation by the batch, the gradient of a bias is zero."""
    return case == "d_bn_train_cifar32" and name.startswith("conv") and name.endswith("/bias")


def gradient_sums(gradient: np.ndarray) -> np.ndarray:
    flat = gradient.ravel()
    return np.array([flat @ flat, flat @ np.cos(np.arange(flat.size))])


def test_every_case_is_there() -> None:
    assert len(CASES) == 11


@pytest.mark.parametrize("case", CASES)
def test_float64(case: str) -> None:
    golden = load(case)
    with jax.enable_x64(True):
        ours = run(case, golden, jnp.float64)
    assert ours.logits.dtype == np.float64
    assert_close(ours.logits, golden["logits"], 1e-10)
    assert_close(ours.loss, golden["loss"], 1e-10)
    for name, wanted in tree(golden, "batch_stats", case).items():
        assert_close(ours.batch_stats[name], wanted, 1e-10)
    grads, sums = tree(golden, "grads", case), tree(golden, "grad_sums", case)
    assert ours.grads.keys() == grads.keys() == sums.keys()
    for name, wanted in grads.items():
        if is_zero(name, case):
            assert not ours.grads[name].any()
        else:
            assert_close(ours.grads[name], wanted, 1e-7)  # stored in float32
            assert_close(gradient_sums(ours.grads[name]), sums[name], 1e-10)


@pytest.mark.parametrize("case", CASES)
def test_float32(case: str) -> None:
    golden = load(case)
    ours = run(case, golden, jnp.float32)
    assert_close(ours.logits, golden["logits"], 1e-5)
    assert_close(ours.loss, golden["loss"], 1e-5)
    for name, wanted in tree(golden, "batch_stats", case).items():
        assert_close(ours.batch_stats[name], wanted, 1e-5)
    for name, wanted in tree(golden, "grads", case).items():
        if is_zero(name, case):
            assert not ours.grads[name].any()
        else:
            assert_close(ours.grads[name], wanted, 1e-5)
