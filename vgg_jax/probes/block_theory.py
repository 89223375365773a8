"""What blocks of two convolutions do to signals and gradients at initialisation, in closed form.

A branch is norm, ReLU, convolution, norm, ReLU, convolution: pre-activation, as He et al. (2016),
arXiv 1603.05027, order it. A residual block adds it to what it gets, a plain one puts it in its
place. Weights have He's variance 2 / fan-in, layers are wide, and a gradient is independent of the
weights and gates that it passes, as in `probes.theory`. With g the mean square of dL/dx and V the
variance of x over batch and positions, a block multiplies without borders

    plain                     g by 1                    V by 1
    plain, batch norm         g by (pi / (pi - 1))^2    V stays 1 - 1/pi
    residual                  g by 2                    V by 2
    residual, batch norm      g by 1 + pi / (pi - 1) / V     V grows by 1 - 1/pi

so the last one's gradient grows as the power pi^2 / (pi - 1)^2 = 2.15 of the depth, its norm as
1.08. On maps of finite size the zero padding takes its part from both.
"""

import numpy as np

from vgg_jax.probes.theory import (
    activation_moments,
    relu_correlation,
    relu_gradient_correlation,
    squared_tap_means,
    window_sum,
)

KERNEL = 3
_VARIANCE = 2 / KERNEL**2  # of the weights, times the channels
_GATE = 0.5  # share of active gates
_MEAN = 1 / np.pi  # squared mean of relu(z) over its mean square


def block_gradients(
    blocks: int, *, norm: str = "none", residual: bool = False, image_size: int | None = None
) -> np.ndarray:
    """Returns the RMS of dL/dx at the ends of the blocks over that behind the last: (blocks + 1,).

    Element 0 is what enters the first block. Batch norm has infinitely many samples, and hands on
    the same variance at every position.

    Args:
      blocks: number of blocks.
      norm: "none" or "batch".
      residual: whether there is a shortcut around each block.
      image_size: side of the maps, for the effect of zero padding; None for maps without borders.
    """
    side = image_size or 1
    normalized = norm == "batch"
    deviation = _normed_variance(side, image_size) if normalized else 1.0
    # x that enters block b: behind a convolution of normalised values, plus the branches.
    entering = deviation * (1 + np.arange(blocks) * float(residual))
    gradient = np.ones((side, side))
    found = [1.0]
    for variance in entering[::-1]:
        branch = _through_convolution(_through_convolution(gradient, image_size), image_size)
        if normalized:
            branch = branch / (variance * deviation)
        gradient = branch + float(residual) * gradient
        found.append(float(np.sqrt(gradient.mean())))
    return np.array(found[::-1])


def block_gradient_correlation(
    correlation: float, blocks: int, *, norm: str = "none", residual: bool = False
) -> np.ndarray:
    """Returns the correlation of two inputs' gradients in nets of 0, 1, ... blocks: (blocks + 1,).

    The gradient is that of a linear readout behind a last norm and ReLU, with respect to a linear
    image of the inputs, from which the first block is one gate and one convolution away. As
    `coherence.gradient_correlation`, which has one gate to a layer; no borders.

    Args:
      correlation: of the two inputs, uncentred.
      blocks: most blocks.
      norm: "none" or "batch".
      residual: whether there is a shortcut around each block.
    """
    normalized = norm == "batch"
    shortcut = float(residual)
    deviation = 1 - _MEAN if normalized else 1.0
    variance = deviation
    covariance = variance * _after_gate(correlation, normalized)
    kept = float(relu_gradient_correlation(correlation))
    found = [kept * float(relu_gradient_correlation(covariance / variance))]
    for _ in range(blocks):
        cosine = covariance / variance
        inside = _after_gate(cosine, normalized)
        gates = float(relu_gradient_correlation(cosine) * relu_gradient_correlation(inside))
        # What the branch adds to the variance, and its squared gain.
        added = deviation if normalized else variance
        gain = 1 / (variance * deviation) if normalized else 1.0
        kept = kept * (shortcut + gain * gates) / (shortcut + gain)
        covariance = shortcut * covariance + added * _after_gate(inside, normalized)
        variance = shortcut * variance + added
        found.append(kept * float(relu_gradient_correlation(covariance / variance)))
    return np.array(found)


def _after_gate(cosine: float, normalized: bool) -> float:
    """Correlation of two pre-activations behind a ReLU and a convolution; with norm, centred."""
    uncentred = float(relu_correlation(cosine))
    return (uncentred - _MEAN) / (1 - _MEAN) if normalized else uncentred


def _through_convolution(gradient: np.ndarray, image_size: int | None) -> np.ndarray:
    """Mean squares of a gradient (side, side) before a convolution and its ReLU."""
    return _GATE * _VARIANCE * window_sum(gradient, KERNEL, image_size)


def _normed_variance(side: int, image_size: int | None) -> float:
    """Variance behind a convolution of relu(z), z normalised: 1 - 1/pi without borders."""
    moments = activation_moments("relu", np.ones((side, side)))
    squares = window_sum(moments.square, KERNEL, image_size).mean()
    return _VARIANCE * float(squares - squared_tap_means(moments.mean, KERNEL, image_size))
