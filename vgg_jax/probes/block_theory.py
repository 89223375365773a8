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
1.08. On maps of finite size the zero padding takes its part from both. It also makes the mean of a
channel depend on the position. Batch norm subtracts one mean from all positions, so this pattern
stays in the variance that it divides by: up to a fifth of it in a plain net of 8x8 maps. In the
deep layers of a plain net the variances drift away from these (`experiments/depth_limit`); with the
measured ones the rest of the closed form holds.
"""

from typing import NamedTuple

import numpy as np

from vgg_jax.probes.theory import relu_correlation, relu_gradient_correlation, window_sum

KERNEL = 3
_VARIANCE = 2 / KERNEL**2  # of the weights, times the channels
_GATE = 0.5  # share of active gates
_MEAN = 1 / np.pi  # squared mean of relu(z) over its mean square


def block_gradients(
    blocks: int,
    *,
    norm: str = "none",
    residual: bool = False,
    image_size: int | None = None,
    variances: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the RMS of dL/dx at the ends of the blocks over that behind the last: (blocks + 1,).

    Element 0 is what enters the first block. Batch norm has infinitely many images.

    Args:
      blocks: number of blocks.
      norm: "none" or "batch".
      residual: whether there is a shortcut around each block.
      image_size: side of the maps, for the effect of zero padding; None for maps without borders.
        With batch norm time and memory grow as its fourth power.
      variances: with batch norm, the measured variances that the two norms of each block divide
        by, (blocks, 2): harmonic means over the channels, as the gradient's square is divided by
        them. None for `block_variances`.

    Raises:
      ValueError: variances without batch norm, or of another shape.
    """
    if variances is not None and (norm != "batch" or variances.shape != (blocks, 2)):
        raise ValueError(
            f"variances {variances.shape} with norm={norm!r}: give ({blocks}, 2) and norm='batch'"
        )
    side = image_size or 1
    if variances is None:
        variances = np.ones((blocks, 2))
        if norm == "batch":
            variances = block_variances(blocks, residual=residual, image_size=image_size)
    gradient = np.ones((side, side))
    found = [1.0]
    for first, second in variances[::-1]:
        inside = _through_convolution(gradient, image_size) / second
        branch = _through_convolution(inside, image_size) / first
        gradient = branch + float(residual) * gradient
        found.append(float(np.sqrt(gradient.mean())))
    return np.array(found[::-1])


def block_variances(blocks: int, *, residual: bool, image_size: int | None = None) -> np.ndarray:
    """Returns the variances that the two batch norms of each block divide by: (blocks, 2).

    Images are independent, and their positions too. A Gaussian process of infinite width, as in
    Novak et al. (2019), arXiv 1810.05148, with batch norm's centring between layers.

    Args:
      blocks: number of blocks.
      residual: whether there is a shortcut around each block.
      image_size: as in `block_gradients`.
    """
    positions = (image_size or 1) ** 2
    first = _Covariances(np.eye(positions), np.zeros((positions, positions)))
    stream = _behind_branch_half(_normalized(first)[0], image_size)
    found = []
    for _ in range(blocks):
        seen, entering = _normalized(stream)
        inside, between = _normalized(_behind_branch_half(seen, image_size))
        branch = _behind_branch_half(inside, image_size)
        found.append((entering, between))
        kept = [old + new for old, new in zip(stream, branch, strict=True)]
        stream = _Covariances(*kept) if residual else branch
    return np.array(found)


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


class _Covariances(NamedTuple):
    """Of a channel's pre-activations at two positions, (positions, positions)."""

    same: np.ndarray  # in one image
    other: np.ndarray  # in two images: of the pattern that all images share


def _normalized(values: _Covariances) -> tuple[_Covariances, float]:
    """Subtracts the mean over images and positions and divides by the variance; returns both."""
    # With many images the mean's covariances are those of two images.
    mean = values.other.mean(1)
    centred = [matrix - mean[:, None] - mean + mean.mean() for matrix in values]
    variance = float(np.trace(centred[0]) / len(mean))
    return _Covariances(*(matrix / variance for matrix in centred)), variance


def _behind_branch_half(values: _Covariances, image_size: int | None) -> _Covariances:
    """Covariances behind a ReLU and a convolution."""
    deviations = np.sqrt(np.diag(values.same))
    scale = np.outer(deviations, deviations)
    outputs = (scale / 2 * relu_correlation(matrix / scale) for matrix in values)
    return _Covariances(*(_VARIANCE * _joint_window_sum(matrix, image_size) for matrix in outputs))


def _joint_window_sum(matrix: np.ndarray, image_size: int | None) -> np.ndarray:
    """Sums over the taps of a kernel what it sees at one position times what at another."""
    if image_size is None:
        return KERNEL**2 * matrix
    shape = (image_size,) * 4
    padded = np.pad(matrix.reshape(shape), KERNEL // 2)
    total = np.zeros(shape)
    for row in range(KERNEL):
        rows = slice(row, row + image_size)
        for column in range(KERNEL):
            columns = slice(column, column + image_size)
            total += padded[rows, columns, rows, columns]
    return total.reshape(matrix.shape)
