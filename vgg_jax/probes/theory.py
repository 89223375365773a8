"""What a plain convolutional network does to the scale of signals and gradients, in closed form.

Mean-field theory at initialisation: weights independent with mean 0 (He et al. 2015, section 2.2,
arXiv 1502.01852; Schoenholz et al. 2017, arXiv 1611.01232), layers so wide that a pre-activation is
Gaussian, and a gradient that is independent of the weights it passes. q is the mean square of a
layer's pre-activations z, g that of the gradient dL/dz of one loss with respect to them. With
weights of variance v, windows of k x k, C_in channels in and C_out out,

    q(l) = v k^2 C_in  E[phi(z)^2]              forward, from layer l-1
    g(l-1) = v k^2 C_out g(l) E[phi'(z)^2]      backward

On maps of finite size both are fields over positions: a tap of the kernel that falls on the zero
padding adds nothing. Pooling enters through the moments of what it hands on.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from vgg_jax.errors import UserError, unknown_name
from vgg_jax.models.fields import POOLINGS
from vgg_jax.models.initializers import GAINS
from vgg_jax.models.variants import Stage

Function = Callable[[np.ndarray], np.ndarray]


def _squared_sech(x: np.ndarray) -> np.ndarray:
    return 1 / np.cosh(np.clip(x, -300, 300)) ** 2  # within float64


# Each with its derivative.
_FUNCTIONS: dict[str, tuple[Function, Function]] = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "tanh": (np.tanh, _squared_sech),
    "sigmoid": (lambda x: (1 + np.tanh(x / 2)) / 2, lambda x: _squared_sech(x / 2) / 4),
    "linear": (lambda x: x, np.ones_like),
}
# Quadrature over a standard Gaussian. An even number of nodes leaves the kink of ReLU between two.
_NODES = np.linspace(-9, 9, 2000)
_DENSITY = np.exp(-(_NODES**2) / 2)
_CUMULATIVE = np.cumsum(_DENSITY) - _DENSITY / 2
_DENSITY_OF_LARGEST = _DENSITY * _CUMULATIVE**3


@dataclasses.dataclass(frozen=True)
class Moments:
    """Of what a layer hands to the next, given Gaussian pre-activations.

    Attributes:
      mean: E[x] of the layer's output x, after pooling if there is one.
      square: E[x^2].
      slope: E[(dx/dz)^2] for one pre-activation z and the output x of its window.
    """

    mean: np.ndarray
    square: np.ndarray
    slope: np.ndarray


def activation_moments(activation: str, q: np.ndarray, pooling: str | None = None) -> Moments:
    """Integrates over Gaussian pre-activations of mean square q.

    Args:
      activation: "relu", "tanh", "sigmoid" or "linear".
      q: positive, any shape; ReLU's moments are proportional to it.
      pooling: None for a layer that is not pooled. "max" and "average" take the four positions of
        a window as independent, the opposite of equal ones: real maps lie between. For "none", a
        stride alone, `slope` is that of the position that is kept.
    """
    function, derivative = _FUNCTIONS[activation]
    weights = _DENSITY_OF_LARGEST if pooling == "max" else _DENSITY
    weights = weights / weights.sum()
    values, where = np.unique(q, return_inverse=True)
    z = np.sqrt(values)[:, None] * _NODES
    handed_on = function(z)
    mean, square = handed_on @ weights, handed_on**2 @ weights
    slope = derivative(z) ** 2 @ weights
    if pooling == "max":
        slope = slope / 4  # one of four gets it all
    if pooling == "average":
        square, slope = mean**2 + (square - mean**2) / 4, slope / 16
    return Moments(*(moment[where].reshape(np.shape(q)) for moment in (mean, square, slope)))


def weight_variance(
    kernel_init: str, kernel: int, channels_in: int, channels_out: int, activation: str = "relu"
) -> float:
    """Returns the variance of a convolution's weights under an initialiser of `models`.

    Args:
      kernel_init: name in `initializers.INITIALIZERS`, without the delta-orthogonal one, whose
        weights differ in variance from tap to tap, and "lsuv", which depends on the data.
      kernel: side k of the window.
      channels_in: input channels.
      channels_out: output channels.
      activation: sets the gain, if the initialiser has one.
    """
    fan_in, fan_out = kernel**2 * channels_in, kernel**2 * channels_out
    gain = GAINS[activation]
    variances = {
        "paper": 0.01**2,
        "paper_variance": 0.1**2,
        "lecun": 1 / fan_in,
        "glorot_normal": 2 / (fan_in + fan_out),
        "glorot_uniform": 2 / (fan_in + fan_out),
        "he_fan_in": gain**2 / fan_in,
        **dict.fromkeys(("he_fan_out", "torchvision", "chengyangfu"), gain**2 / fan_out),
        # Rows or columns are orthonormal, whichever are fewer.
        "orthogonal": gain**2 / max(fan_in, channels_out),
    }
    if kernel_init not in variances:
        raise unknown_name("kernel_init with a known variance", kernel_init, variances)
    return variances[kernel_init]


@dataclasses.dataclass(frozen=True)
class SignalPrediction:
    """Per convolution, input to output, float64 (layers,).

    Attributes:
      names: "conv1_1", ...
      preactivation_rms: root mean square over positions of z; with batch norm of what follows it.
      gradient_rms: of dL/dz, relative to that of the last convolution.
    """

    names: tuple[str, ...]
    preactivation_rms: np.ndarray
    gradient_rms: np.ndarray

    @property
    def forward(self) -> float:
        """Pre-activation RMS of the last convolution over that of the first."""
        return float(self.preactivation_rms[-1] / self.preactivation_rms[0])

    @property
    def backward(self) -> float:
        """Gradient RMS of the first convolution over that of the last."""
        return float(self.gradient_rms[0] / self.gradient_rms[-1])


def predict_signals(
    stages: Sequence[Stage],
    kernel_init: str,
    *,
    norm: str = "none",
    activation: str = "relu",
    pooling: str | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    input_square: float = 1.0,
) -> SignalPrediction:
    """Predicts scales at initialisation, biases zero.

    Args:
      stages: the convolutions, as in `VGG.conv_stages`; none with local response normalisation.
      kernel_init: as for `weight_variance`, or "lsuv": output variance 1 in every layer.
      norm: "none", or "batch": statistics of the batch, scale 1, bias 0, epsilon small.
      activation: see `activation_moments`.
      pooling: between stages, see `activation_moments`; None leaves pooling out altogether, as the
        textbook products of layer factors do.
      image_size: side of the images, for the effect of padding; None for maps without borders.
      batch_size: for the finite-batch correction of batch norm with ReLU, taking all positions as
        independent samples; None for an infinite batch.
      input_square: mean square of the images.

    Raises:
      UserError: a stage has local response normalisation, or a pooling is unknown.
    """
    if any(conv.lrn for stage in stages for conv in stage):
        raise UserError("no theory for local response normalisation; use net A instead of A-LRN")
    if pooling is not None and pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, POOLINGS)
    layers = _forward(stages, kernel_init, norm, activation, pooling, image_size, input_square)
    # At the output all positions and channels are alike.
    gradient = _pool(np.ones_like(layers[-1].q), layers[-1].pooling, image_size)
    gradients = []
    for layer, after in zip(layers[::-1], [None, *layers[:0:-1]], strict=True):
        if after is not None:
            correction = _batch_correction(after, batch_size, activation, norm)
            scale = after.variance * after.channels_out * correction
            gradient = scale * window_sum(gradient, after.kernel, image_size)
        gradient = layer.moments.slope * _unpool(gradient, layer.pooling, image_size)
        gradients.append(np.sqrt(gradient.mean()))
    relative = np.array(gradients[::-1]) / gradients[0]
    rms = [1.0 if norm == "batch" else float(np.sqrt(layer.q.mean())) for layer in layers]
    return SignalPrediction(tuple(layer.name for layer in layers), np.array(rms), relative)


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A convolution: `variance` of its weights, over the batch's if it is normalised."""

    name: str
    kernel: int
    channels_out: int
    variance: float
    q: np.ndarray  # (side, side)
    pooling: str | None
    moments: Moments


def _forward(
    stages: Sequence[Stage],
    kernel_init: str,
    norm: str,
    activation: str,
    pooling: str | None,
    image_size: int | None,
    input_square: float,
) -> list[_Layer]:
    side = image_size or 1
    mean, square = np.zeros((side, side)), np.full((side, side), input_square)
    channels = 3
    layers = []
    for s, stage in enumerate(stages, 1):
        for i, conv in enumerate(stage, 1):
            sums = channels * window_sum(square, conv.kernel, image_size)
            if norm == "batch":
                # Over positions and batch, the mean is taken out of every tap of the kernel.
                means = channels * squared_tap_means(mean, conv.kernel, image_size)
                variance = 1 / (sums.mean() - means)
                q = np.ones_like(sums)
            else:
                if kernel_init == "lsuv":
                    variance = 1 / sums.mean()
                else:
                    variance = weight_variance(
                        kernel_init, conv.kernel, channels, conv.channels, activation
                    )
                q = variance * sums
            pooled = pooling if i == len(stage) else None
            moments = activation_moments(activation, q, pooled)
            layers.append(
                _Layer(f"conv{s}_{i}", conv.kernel, conv.channels, variance, q, pooled, moments)
            )
            mean, square = (
                _pool(moment, pooled, image_size) for moment in (moments.mean, moments.square)
            )
            channels = conv.channels
    return layers


def window_sum(field: np.ndarray, kernel: int, image_size: int | None) -> np.ndarray:
    """Sums a field (side, side) over k x k windows, zero outside; without borders, k^2 times it."""
    if image_size is None:
        return kernel**2 * field
    return np.sum(_shifted(field, kernel), axis=0)


def _shifted(field: np.ndarray, kernel: int) -> list[np.ndarray]:
    """The field as each tap of a k x k kernel sees it, zero outside."""
    side, margin = len(field), kernel // 2
    padded = np.pad(field, margin)
    offsets = range(kernel)
    return [padded[row : row + side, col : col + side] for row in offsets for col in offsets]


def squared_tap_means(mean: np.ndarray, kernel: int, image_size: int | None) -> float:
    """Sums over the taps the square of the mean over positions of what the tap sees."""
    if image_size is None:
        return kernel**2 * float(mean.mean()) ** 2
    return sum(float(tap.mean()) ** 2 for tap in _shifted(mean, kernel))


def _pool(field: np.ndarray, pooling: str | None, image_size: int | None) -> np.ndarray:
    """Moments of a map after pooling; those of a window are averaged."""
    if pooling is None or image_size is None:
        return field
    if pooling == "none":
        return field[::2, ::2]
    side = len(field) // 2
    return field.reshape(side, 2, side, 2).mean((1, 3))


def _unpool(field: np.ndarray, pooling: str | None, image_size: int | None) -> np.ndarray:
    """Mean squares of gradients, from after the pooling to before; the slope is not in it."""
    if pooling is None:
        return field
    pattern = np.array([[1.0, 0.0], [0.0, 0.0]]) if pooling == "none" else np.ones((2, 2))
    return pattern.mean() * field if image_size is None else np.kron(field, pattern)


# --- Batch normalisation -----------------------------------------------------------------------


def batch_norm_growth(samples: float | None = None) -> float:
    """Growth of the gradient's RMS, a ReLU layer with batch norm backwards, equal widths.

    For infinitely many samples sqrt(pi / (pi - 1)) = 1.211: Yang et al. (2019), arXiv 1902.08129.
    For B independent samples, our derivation. The normalised values of a channel lie on a sphere
    orthogonal to (1, ..., 1), so that two of them correlate by r = -1 / (B - 1). With the
    expectations over ReLU of a pair of correlated Gaussians, a = E[relu relu'] / E[relu^2] and
    b = P(both active) / P(active), the next layer's variance along any direction of the batch is
    (1 - a) / 2, the squared length of such a vector chi^2 with B - 1 degrees of freedom
    (E[1/chi^2] = 1 / (B - 3)), and the backward pass removes from the gradient the shares
    (1 - b) / B along (1, ..., 1) and (1 - a) / B along the values themselves.

    Args:
      samples: B, above 3, of the batch times positions where those are independent; None for
        infinitely many.
    """
    if samples is None:
        return float(np.sqrt(np.pi / (np.pi - 1)))
    if samples <= 3:
        raise ValueError(f"{samples} samples: the expected gradient is infinite for 3 or fewer")
    correlation = -1 / (samples - 1)
    a = float(relu_correlation(correlation))
    b = float(relu_gradient_correlation(correlation))
    kept = 1 - (1 - b) / samples - (1 - a) / samples
    return float(np.sqrt(kept / (1 - a) * samples / (samples - 3)))


def _batch_correction(layer: _Layer, batch_size: int | None, activation: str, norm: str) -> float:
    """Squared growth for a finite batch over that for an infinite one."""
    if norm != "batch" or batch_size is None or activation != "relu":
        return 1.0
    samples = batch_size * layer.q.size
    return (batch_norm_growth(samples) / batch_norm_growth()) ** 2


# --- Correlation of two inputs -----------------------------------------------------------------


def relu_correlation(correlation: np.ndarray | float) -> np.ndarray:
    """Maps the uncentred correlation of two inputs to a ReLU layer to that of its outputs.

    Cho & Saul (2009), the arc-cosine kernel of degree 1. Pre-activations of the next layer
    correlate as these outputs do.
    """
    c = np.clip(correlation, -1, 1)
    return (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c) / np.pi


def relu_gradient_correlation(correlation: np.ndarray | float) -> np.ndarray:
    """Returns the factor by which a ReLU layer multiplies the correlation of two gradients.

    P(both active | one active), the arc-cosine kernel of degree 0, at pre-activations of that
    correlation. Balduzzi et al. (2017), arXiv 1702.08591, take 1/2: uncorrelated inputs.
    """
    return 1 - np.arccos(np.clip(correlation, -1, 1)) / np.pi
