"""Small networks for the tests of this folder."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

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


@functools.cache  # by the network's fields: JAX would compile each equal one again
def _compiled(model: VGG, method: str) -> Any:
    return jax.jit(getattr(model, method))


def init(model: VGG, images: jax.Array, seed: int = 0) -> dict[str, Any]:
    return _compiled(model, "init")(jax.random.key(seed), images)


def forward(model: VGG, variables: Any, images: jax.Array) -> tuple[jax.Array, dict]:
    """Logits and endpoints, not training."""
    return _compiled(model, "apply")(variables, images)


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
