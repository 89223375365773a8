"""Style transfer after Gatys, Ecker & Bethge (2016), "Image Style Transfer Using CNNs", CVPR.

The losses have the means and weights of the authors' own program
(leongatys/PytorchNeuralStyleTransfer): a style weight of 1000 / channels^2 per layer, Gram matrices
over height * width, content 1. The picture begins as the content, as there.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import unknown_name
from vgg_jax.features.extractor import compute_endpoints
from vgg_jax.features.perceptual import Arrays, feature_loss, style_grams, style_loss
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT_LAYER = "relu4_2"
STYLE_WEIGHT = 1000.0

ADAM_STEP = 5.0  # grey levels of 0..255
HALVINGS = 10
SUFFICIENT = 1e-4  # of the decrease that the slope promises (Armijo's rule)

Objective = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


class Progress(NamedTuple):
    """State of an optimisation: iterations made, loss, and the picture, float32 (H, W, 3) RGB."""

    iteration: int
    loss: float
    picture: np.ndarray


def transfer_objective(
    weights: Weights,
    content: np.ndarray,
    style: np.ndarray,
    *,
    content_weight: float = 1.0,
    variation_weight: float = 0.0,
    content_layer: str = CONTENT_LAYER,
    style_layers: Sequence[str] = STYLE_LAYERS,
) -> Objective:
    """Returns the function that maps a picture to its loss and the gradient of that.

    Args:
      weights: of the network, VGG-19 in the paper. Its pooling is that of `weights.model`; the
        paper's filters are rescaled by `normalize_weights`.
      content: RGB of 0..255, uint8 or float (H, W, 3).
      style: the same, of any size.
      content_weight: of the content's loss; that of the style is 1000.
      variation_weight: of `total_variation`, which makes the picture smoother.
      content_layer: endpoint whose features the picture is to share with `content`.
      style_layers: endpoints whose Gram matrices it is to share with `style`.

    Returns:
      A function of float32 (H, W, 3), RGB of 0..255. It is compiled already: do not jit it again,
      that would make constants of the weights.

    Raises:
      UserError: an unknown endpoint, or a picture that is too small.
    """
    wanted = compute_endpoints(
        weights.variables,
        content[None],
        model=weights.model,
        preprocessing=weights.preprocessing,
        endpoints=(content_layer,),
    )
    return functools.partial(
        _loss_and_gradient,
        weights.variables,
        wanted,
        style_grams(weights, style, tuple(style_layers)),
        content_weight,
        variation_weight,
        model=weights.model,
        preprocessing=weights.preprocessing,
    )


def total_variation(picture: jax.Array) -> jax.Array:
    """Returns the mean squared difference of neighbouring pixels, down plus across: a scalar.

    Mahendran & Vedaldi (2015), arXiv 1412.0035, section 3, with an exponent beta of 2; a mean where
    they have a sum, so that a weight serves pictures of any size.

    Args:
      picture: float (H, W, 3), both sides at least 2.
    """
    down, across = picture[1:] - picture[:-1], picture[:, 1:] - picture[:, :-1]
    return jnp.mean(jnp.square(down)) + jnp.mean(jnp.square(across))


@functools.partial(jax.jit, static_argnames=("model", "preprocessing"))
def _loss_and_gradient(
    variables: dict,
    wanted: Arrays,
    grams: Arrays,
    content_weight: float,
    variation_weight: float,
    picture: jax.Array,
    *,
    model: VGG,
    preprocessing: Preprocessing,
) -> tuple[jax.Array, jax.Array]:
    def loss(picture: jax.Array) -> jax.Array:
        features = compute_endpoints(
            variables,
            picture[None],
            model=model,
            preprocessing=preprocessing,
            endpoints=tuple(wanted | grams),
        )
        content = content_weight * feature_loss(features, wanted)
        style = STYLE_WEIGHT * style_loss(features, grams)
        return content + style + variation_weight * total_variation(picture)

    return jax.value_and_grad(loss)(picture)


def minimize(
    objective: Objective, picture: np.ndarray, *, optimizer: str = "lbfgs"
) -> Iterator[Progress]:
    """Improves a picture, an iteration at a time, until the caller stops or no step helps.

    Args:
      objective: from `transfer_objective`.
      picture: where to begin, (H, W, 3) RGB of 0..255.
      optimizer: "lbfgs" (ten pairs of memory, steps halved until the loss goes down), or "adam"
        (steps of five grey levels).

    Yields:
      A `Progress` after every iteration. Pixels may leave 0..255: clip them to show them.

    Raises:
      UserError: an unknown optimizer.
    """
    if optimizer not in _OPTIMIZERS:
        raise unknown_name("optimizer", optimizer, _OPTIMIZERS)
    start = jnp.asarray(picture, jnp.float32)
    steps = _OPTIMIZERS[optimizer](objective, start)
    for iteration, (loss, improved) in enumerate(steps, 1):
        yield Progress(iteration, float(loss), np.asarray(improved))


Steps = Iterator[tuple[jax.Array, jax.Array]]  # loss and picture


def _adam(objective: Objective, picture: jax.Array) -> Steps:
    transform = optax.adam(ADAM_STEP)
    update, state = jax.jit(transform.update), transform.init(picture)
    _, gradient = objective(picture)
    while True:
        updates, state = update(gradient, state)
        picture = picture + updates
        loss, gradient = objective(picture)
        yield loss, picture


def _lbfgs(objective: Objective, picture: jax.Array) -> Steps:
    """Line search on the host: on a CPU XLA runs the body of a compiled loop on one thread."""
    transform = optax.scale_by_lbfgs()
    update, state = jax.jit(transform.update), transform.init(picture)
    loss, gradient = objective(picture)
    fresh = True  # nothing is known of the curvature
    while True:
        direction, state = update(gradient, state, picture)
        slope = jnp.vdot(direction, gradient)
        found = None
        if slope > 0:
            found = _backtrack(objective, picture, direction, loss, slope)
        if found is not None:
            picture, loss, gradient = found
            fresh = False
            yield loss, picture
        elif fresh:
            return
        else:  # forget a curvature that misleads
            state, fresh = transform.init(picture), True


def _backtrack(
    objective: Objective,
    picture: jax.Array,
    direction: jax.Array,
    loss: jax.Array,
    slope: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array] | None:
    """Returns picture, loss and gradient after the first of ever shorter steps that helps."""
    for halvings in range(HALVINGS):
        step = 0.5**halvings
        moved = picture - step * direction
        new_loss, gradient = objective(moved)
        if new_loss <= loss - SUFFICIENT * step * slope:
            return moved, new_loss, gradient
    return None


_OPTIMIZERS = {"adam": _adam, "lbfgs": _lbfgs}
