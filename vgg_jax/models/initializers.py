"""Weight initialisers by name, and the layer-sequential unit-variance procedure (LSUV).

Every initialiser takes a convolution kernel (height, width, in, out) or a matrix (in, out); normal
distributions are not truncated. The variances:

    paper             1e-4         std 0.01, as He et al. (2015) read the VGG recipe
    paper_variance    1e-2         the text of Simonyan & Zisserman (2014), section 3.1, literally
    lecun             1/fan_in     LeCun et al. (1998), Efficient BackProp, section 4.6
    glorot_normal     2/(fan_in + fan_out)   Glorot & Bengio (2010), eq. 12 and 16
    glorot_uniform    the same variance, uniform
    he_fan_in         gain^2/fan_in    He et al. (2015), arXiv 1502.01852, eq. 10
    he_fan_out        gain^2/fan_out   the same, eq. 14
    orthogonal        gain x orthogonal matrix (height * width * in, out)   Saxe et al. (2014)
    delta_orthogonal  gain x orthogonal matrix at the centre tap, zero elsewhere; needs
                      in <= out; plain `orthogonal` for matrices   Xiao et al. (2018), 1806.05393
    lsuv              orthogonal with gain 1, the start of `lsuv` below

fan_in = height * width * in and fan_out = height * width * out. LeCun and Glorot have no gain
in their papers, so none here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vgg_jax.errors import UserError, unknown_name

Initializer = jax.nn.initializers.Initializer

# The gain keeps the second moment through the activation at initialisation.
GAINS = {
    # E[relu(x)^2] = E[x^2] / 2 for symmetric x: He et al. (2015), section 2.2.
    "relu": 2**0.5,
    # Slope 1 at zero, so linear for small inputs: Glorot & Bengio (2010), section 4.2.1.
    "tanh": 1.0,
    # By convention (torch.nn.init.calculate_gain). Its slope of 1/4 at zero breaks the
    # assumption of Glorot & Bengio, who report that it trains badly; no theory gives a better one.
    "sigmoid": 1.0,
    # Exact: Saxe et al. (2014), arXiv 1312.6120.
    "linear": 1.0,
}


def get_initializer(name: str, activation: str = "relu") -> Initializer:
    """Returns the initialiser of that name with the gain of the activation where it has one.

    Raises:
      UserError: unknown name or activation.
    """
    if activation not in GAINS:
        raise unknown_name("activation", activation, GAINS)
    if name not in _FACTORIES:
        raise unknown_name("kernel_init", name, _FACTORIES)
    return _FACTORIES[name](GAINS[activation])


def as_matrix(initializer: Initializer) -> Initializer:
    """Wraps an initialiser to see a kernel (height, width, in, out) as one matrix.

    For a fully connected layer written as a convolution: every output sees the whole map, so
    fan_out is `out`, not height * width * out.
    """

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None):
        height, width, features_in, features_out = shape
        matrix = initializer(key, (height * width * features_in, features_out), dtype)
        return matrix.reshape(shape)

    return init


def _delta_orthogonal(gain: float) -> Initializer:
    convolution = jax.nn.initializers.delta_orthogonal(gain)
    matrix = jax.nn.initializers.orthogonal(gain)

    def init(key: jax.Array, shape: Any, dtype: Any = jnp.float32, out_sharding: Any = None):
        if len(shape) == 2:
            return matrix(key, shape, dtype)
        if shape[-2] > shape[-1]:
            raise UserError(
                f"delta_orthogonal needs in <= out channels, and a kernel is {tuple(shape)}.\n"
                "Use kernel_init 'orthogonal' for this network"
            )
        return convolution(key, shape, dtype)

    return init


def _variance(scale: float, mode: str, distribution: str = "normal") -> Initializer:
    return jax.nn.initializers.variance_scaling(scale, mode, distribution)


_FACTORIES: dict[str, Callable[[float], Initializer]] = {
    "paper": lambda gain: jax.nn.initializers.normal(0.01),
    "paper_variance": lambda gain: jax.nn.initializers.normal(0.1),
    "lecun": lambda gain: _variance(1.0, "fan_in"),
    "glorot_normal": lambda gain: _variance(1.0, "fan_avg"),
    "glorot_uniform": lambda gain: _variance(1.0, "fan_avg", "uniform"),
    "he_fan_in": lambda gain: _variance(gain**2, "fan_in"),
    "he_fan_out": lambda gain: _variance(gain**2, "fan_out"),
    "orthogonal": jax.nn.initializers.orthogonal,
    "delta_orthogonal": _delta_orthogonal,
    "lsuv": lambda gain: jax.nn.initializers.orthogonal(1.0),
}
INITIALIZERS = tuple(_FACTORIES)
