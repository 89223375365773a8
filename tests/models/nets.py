"""Small networks for the tests of this folder."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.models.vgg import VGG

SMALL_STAGES = ("3-4 x2", "3-8 x2")
SMALL_SIZE = 8  # pixels: the last map is 2x2


def small_vgg(**fields: Any) -> VGG:
    """Two stages of two convolutions, linear head on a 2x2 window, 3 classes, unless said."""
    defaults = {
        "stages": SMALL_STAGES,
        "num_classes": 3,
        "head": "linear",
        "head_window": 2,
        "dropout": 0.0,
    }
    return VGG(**(defaults | fields))


def random_images(count: int, size: int = SMALL_SIZE, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (count, size, size, 3))


@functools.cache  # by the network's fields: JAX would trace each equal one again
def _shapes(model: VGG, images: tuple[int, ...]) -> Any:
    images = jax.ShapeDtypeStruct(images, jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


@functools.cache
def _forward(model: VGG) -> Any:
    return jax.jit(model.apply)


def he_start(model: VGG, images: jax.Array, seed: int = 0) -> dict[str, Any]:
    """He's start, drawn by NumPy: a program that draws takes as long to compile as the network."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        name = path[-1].key
        if name == "kernel":
            values = rng.normal(0, (2 / np.prod(leaf.shape[:-1])) ** 0.5, leaf.shape)
        else:
            values = np.full(leaf.shape, name in ("scale", "var"))
        return jnp.asarray(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, _shapes(model, images.shape))


def forward(model: VGG, variables: Any, images: jax.Array) -> tuple[jax.Array, dict]:
    """Logits and endpoints, not training."""
    return _forward(model)(variables, images)


def train_forward(model: VGG, variables: Any, images: jax.Array, seed: int = 1) -> Any:
    """((logits, endpoints), updates), training."""

    @jax.jit
    def apply(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        return model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )

    return apply(variables, images, jax.random.key(seed))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -chosen.mean()
