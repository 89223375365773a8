"""The input-output Jacobian J of a network, and what its scale and singular values should be.

Fluctuations at finite width: Hanin & Nica (2018), arXiv 1812.05994. Spectra at infinite width: free
probability, as in Pennington et al. (2017), arXiv 1711.04735; orthogonal convolutions: Xiao et al.
(2018), arXiv 1806.05393.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.models.initializers import GAINS
from vgg_jax.probes.mean_field import tanh_slope_ratio
from vgg_jax.probes.statistics import root_mean_square
from vgg_jax.probes.theory import activation_moments

Function = Callable[[Any], Any]


def pushforward(function: Function, x: jax.Array) -> Function:
    """Returns u -> J u, J the Jacobian of a function at x.

    As the transpose of the backward pass, because our batch norm and pooling define only that.
    """
    outputs, pullback = jax.vjp(function, x)
    transposed = jax.linear_transpose(pullback, outputs)
    return lambda u: transposed((u,))[0]


def jacobian(function: Function, x: jax.Array) -> jax.Array:
    """Returns J, all derivatives of a function of an array, as a matrix (outputs, inputs)."""
    units = jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
    columns = jax.vmap(pushforward(function, x))(units)
    return columns.reshape(x.size, -1).T


def log_squared_norm(x: jax.Array) -> jax.Array:
    """Returns ln |x|^2 over all elements, float32, even where |x|^2 leaves float32."""
    return 2 * jnp.log(root_mean_square(x)) + jnp.log(x.size)


# --- ln |J u|^2 for one fixed u ----------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class LogNorm:
    """Mean and variance over networks of ln(|J u|^2 / E|J u|^2)."""

    mean: float
    variance: float


def log_norm_to_leading_order(widths: Sequence[int], linear_width: int | None = None) -> LogNorm:
    """Hanin & Nica's log-normal law: mean -5/2 sum(1/n), variance 5 sum(1/n) for ReLU.

    A linear last layer of m outputs adds 2/m to the variance and -1/m to the mean. Each layer
    multiplies |J u|^2 by a factor of mean 1 and variance 5/n (or 2/m), and the logarithm is taken
    to first order in them: it holds for 1/n small, whatever the sum over layers.

    Args:
      widths: outputs n of each ReLU layer.
      linear_width: outputs m of a last layer without activation; None if there is none.
    """
    variance = sum(5 / n for n in widths) + (2 / linear_width if linear_width else 0)
    return LogNorm(-variance / 2, variance)


def log_norm(widths: Sequence[int], linear_width: int | None = None) -> LogNorm:
    """The same moments at finite width, exactly, given that no layer is off altogether.

    Our derivation. Flipping the sign of a neuron's weights flips its gate but not the square of
    its derivative along u, so the gates are independent of those squares, for any input. The
    factors of the layers are therefore independent, each chi-square with K degrees of freedom
    over its mean n/2, where the number K of open gates is binomial (n, 1/2).

    Args:
      widths: see `log_norm_to_leading_order`.
      linear_width: see there.
    """
    from scipy.special import digamma, polygamma  # a second to import
    from scipy.stats import binom

    mean = variance = 0.0
    for n in widths:
        count = np.arange(1, n + 1)
        share = binom.pmf(count, n, 0.5)
        share = share / share.sum()
        logs = digamma(count / 2) + np.log(4 / n)
        centre = share @ logs
        mean += centre
        variance += share @ (polygamma(1, count / 2) + (logs - centre) ** 2)
    if linear_width:
        mean += digamma(linear_width / 2) + np.log(2 / linear_width)
        variance += polygamma(1, linear_width / 2)
    return LogNorm(float(mean), float(variance))


# --- Singular values ---------------------------------------------------------------------------


def gaussian_product_edge(layers: int) -> float:
    """Largest squared singular value of a product of square Gaussian matrices, infinitely wide.

    (L + 1)^(L + 1) / L^L for L matrices of variance 1 / width: the right edge of the Fuss-Catalan
    law, whose mean is 1.
    """
    return (layers + 1) ** (layers + 1) / layers**layers


def relative_variance(squares: np.ndarray) -> float:
    """Variance of squared singular values (n,) over the square of their mean: 0 for an isometry."""
    return float(np.var(squares) / np.mean(squares) ** 2)


def predicted_relative_variance(
    layers: int, activation: str, orthogonal: bool, input_square: float = 1.0
) -> float:
    """The same for a wide square net at initialisation, weights with the activation's gain.

    Under free multiplication m2 / m1^2 - 1 adds up (the first coefficient of the S-transform, of
    which the logarithm adds up). A Gaussian matrix contributes 1, an orthogonal one 0, a layer of
    activations E[phi'^4] / E[phi'^2]^2 - 1: 1 for ReLU, 0 for none, and for tanh what follows
    from its pre-activations.

    Args:
      layers: with weights, each followed by the activation.
      activation: "relu", "tanh" or "linear".
      orthogonal: whether weights are orthogonal, or else Gaussian.
      input_square: mean square of the input.
    """
    total, square = 0.0, input_square
    for _ in range(layers):
        q = GAINS[activation] ** 2 * square
        ratio = {"relu": 2.0, "linear": 1.0}.get(activation) or tanh_slope_ratio(q)
        total += ratio - orthogonal
        square = float(activation_moments(activation, np.array(q)).square)
    return total
