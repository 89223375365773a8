"""How far apart two inputs are after many layers, in closed form (Schoenholz et al. 2017).

Mean-field theory of wide networks at initialisation, arXiv 1611.01232, section 3: weights of
variance w / fan_in, biases of variance b. A layer maps the correlation c of two inputs'
pre-activations to that of the next layer's; the map has a stable fixed point c*, and |c - c*| falls
by a factor e in every correlation length.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

# Quadrature over standard Gaussians: for a smooth function, as exact as float64.
_NODES = np.linspace(-9, 9, 181)
_DENSITY = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()


@dataclasses.dataclass(frozen=True)
class TanhMeanField:
    """A deep tanh net whose pre-activations have settled at their fixed mean square.

    Attributes:
      weight_variance: w, times the fan-in.
      bias_variance: b, above 0: without biases and at w <= 1 the signal dies out.

    Raises:
      ValueError: a variance is not positive.
    """

    weight_variance: float
    bias_variance: float

    def __post_init__(self) -> None:
        """Checks the variances."""
        if self.weight_variance <= 0 or self.bias_variance <= 0:
            raise ValueError(f"variances must be positive: {self}")

    @functools.cached_property
    def square(self) -> float:
        """Fixed point q of the mean square of pre-activations: q = w E[tanh(z)^2] + b."""

        def excess(q: float) -> float:
            mean = _mean_square(np.tanh(math.sqrt(q) * _NODES))
            return self.weight_variance * mean + self.bias_variance - q

        return _root(excess, self.bias_variance, self.weight_variance + self.bias_variance)

    def correlation(self, c: float) -> float:
        """Maps the correlation of two inputs' pre-activations to that in the next layer."""
        mean = self._mean_product(np.tanh, c)
        return (self.weight_variance * mean + self.bias_variance) / self.square

    def slope(self, c: float) -> float:
        """Derivative of the map, w E[tanh'(z) tanh'(z')].

        At c = 1 it is also the factor per layer of the mean squared gradient: below 1 the net is
        ordered and gradients vanish, above 1 it is chaotic and they explode.
        """
        return self.weight_variance * self._mean_product(lambda z: 1 / np.cosh(z) ** 2, c)

    @functools.cached_property
    def distance(self) -> float:
        """1 - c* at the stable fixed point: 0 in the ordered phase."""
        if self.slope(1.0) <= 1:
            return 0.0
        # 1 - c = 0 is a fixed point too; divided by it, the map has the other one alone.
        return _root(lambda d: (self.correlation(1 - d) - 1 + d) / d, 1e-6, 1.0)

    @property
    def correlation_length(self) -> float:
        """Layers in which |c - c*| falls by a factor e: -1 / ln(slope at c*)."""
        return -1 / math.log(self.slope(1 - self.distance))

    def _mean_product(self, function: Callable[[np.ndarray], np.ndarray], c: float) -> float:
        """E[f(z) f(z')] of an f that is even or odd, z and z' of correlation c."""
        first = math.sqrt(self.square) * _NODES
        if c == 1:
            return _mean_square(function(first))
        half = slice(len(_NODES) // 2, None)  # -z and -z' have the product of z and z'
        density = np.r_[_DENSITY[half][0], 2 * _DENSITY[half][1:]]
        second = c * first[half, None] + math.sqrt(max(0.0, 1 - c**2)) * first
        return float(density @ (function(first[half]) * (function(second) @ _DENSITY)))


def tanh_slope_ratio(square: float) -> float:
    """Returns E[tanh'(z)^4] / E[tanh'(z)^2]^2 for Gaussian z of that mean square: at least 1."""
    slopes = 1 / np.cosh(math.sqrt(square) * _NODES) ** 2
    return _mean_square(slopes**2) / _mean_square(slopes) ** 2


def relu_norm_length(weight_variance: float) -> float:
    """Layers in which |z|^2 of a ReLU net without biases changes by a factor e: 1 / |ln(w / 2)|.

    Infinite at w = 2, He's variance. The correlation length is infinite at every w: ReLU is
    homogeneous, so w does not enter the correlation at all, and the slope of its map at 1 is 1.
    """
    rate = abs(math.log(weight_variance / 2))
    return 1 / rate if rate else math.inf


def relu_distance(layers: np.ndarray | float) -> np.ndarray | float:
    """Returns 1 - c of two inputs after many layers of ReLU without biases: 9 pi^2 / (2 layers^2).

    Our derivation from Cho & Saul's map (`theory.relu_correlation`): near c = 1 it takes
    d = 1 - c to d - (2 sqrt(2) / (3 pi)) d^(3/2), so 1 / sqrt(d) grows by sqrt(2) / (3 pi) a layer.
    """
    return 9 * math.pi**2 / (2 * layers**2)


def _mean_square(values: np.ndarray) -> float:
    """Mean square of a function's values at the nodes."""
    return float(_DENSITY @ values**2)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq  # a second to import

    return float(brentq(function, low, high, xtol=1e-14))
