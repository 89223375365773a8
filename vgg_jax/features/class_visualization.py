"""A picture of what a network takes for a class, after Simonyan, Vedaldi & Zisserman (2013).

arXiv 1312.6034, section 2: the picture I that maximises S_c(I) - decay * |I|^2, S_c the class's
logit (not its probability) and I counted from the mean colour, found by gradient ascent from I = 0.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights

STEPS = 60
RATE = 4.0  # grey levels, root mean square, of the first step
DECAY = 1e-6  # of the squared picture, summed over pixels; the paper does not give its own

Gradient = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def ascend(
    score_and_gradient: Gradient,
    start: jax.Array,
    *,
    steps: int = STEPS,
    rate: float = RATE,
    decay: float = DECAY,
) -> jax.Array:
    """Climbs score(I) - decay * |I|^2 by steps along the gradient whose length falls to zero.

    Args:
      score_and_gradient: maps I to a scalar and its gradient.
      start: I to begin with, float (H, W, 3).
      steps: number of steps.
      rate: root mean square of the first step; step k of n has a share 1 - k / n of it.
      decay: of the squared picture.
    """
    picture = start
    for step in range(steps):
        _, gradient = score_and_gradient(picture)
        direction = gradient - 2 * decay * picture
        size = jnp.sqrt(jnp.mean(jnp.square(direction)))
        length = rate * (1 - step / steps) / jnp.where(size > 0, size, 1)
        picture = picture + length * direction
    return picture


def visualize_class(
    weights: Weights,
    label: int,
    *,
    steps: int = STEPS,
    rate: float = RATE,
    decay: float = DECAY,
) -> tuple[np.ndarray, float]:
    """Paints what the network takes for a class.

    Args:
      weights: from `load_weights`.
      label: the class.
      steps: of gradient ascent.
      rate: root mean square of the first step, grey levels.
      decay: of the squared picture.

    Returns:
      uint8 (crop, crop, 3) RGB, and the class's logit for it before rounding and clipping.

    Raises:
      UserError: there is no such class.
    """
    classes = len(weights.class_names)
    if not 0 <= label < classes:
        raise UserError(f"label={label}: give one of the {classes} classes, 0 to {classes - 1}")
    preprocessing = weights.preprocessing
    mean = np.asarray(preprocessing.mean, np.float32) / preprocessing.scale
    if preprocessing.channel_order == "BGR":
        mean = mean[::-1]
    objective = functools.partial(
        _logit_and_gradient,
        weights.variables,
        jnp.asarray(mean),
        label,
        model=weights.model,
        preprocessing=preprocessing,
    )
    start = jnp.zeros((preprocessing.crop, preprocessing.crop, 3))
    picture = ascend(objective, start, steps=steps, rate=rate, decay=decay)
    logit, _ = objective(picture)
    pixels = np.round(np.clip(np.asarray(picture) + mean, 0, 255)).astype(np.uint8)
    return pixels, float(logit)


@functools.partial(jax.jit, static_argnames=("model", "preprocessing"))
def _logit_and_gradient(
    variables: dict,
    mean: jax.Array,
    label: jax.Array | int,
    picture: jax.Array,
    *,
    model: VGG,
    preprocessing: Preprocessing,
) -> tuple[jax.Array, jax.Array]:
    def logit(picture: jax.Array) -> jax.Array:
        logits, _ = model.apply(variables, preprocessing.normalize((picture + mean)[None]))
        return logits[0, label]

    return jax.value_and_grad(logit)(picture)
