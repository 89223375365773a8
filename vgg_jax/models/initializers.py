"""Weight initialisers by name.

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
    lsuv              orthogonal with gain 1, the start of `vgg_jax.models.lsuv`
    torchvision       he_fan_out for convolutions, std 0.01 for matrices   torchvision's vgg.py
    chengyangfu       he_fan_out for convolutions, PyTorch's default for matrices: uniform,
                      1/(3 fan_in)   github.com/chengyangfu/pytorch-vgg-cifar10

fan_in = height * width * in and fan_out = height * width * out. LeCun and Glorot have no gain
in their papers, so none here.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
from jax.nn import initializers
from jax.typing import DTypeLike

from vgg_jax.errors import UserError, unknown_name

# (key, shape, dtype) -> array
Initializer = Callable[[jax.Array, Sequence[int], DTypeLike], jax.Array]

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
    """Returns the initialiser of that name with the gain of the activation if it has one.

    Raises:
      UserError: unknown name or activation.
    """
    if activation not in GAINS:
        raise unknown_name("activation", activation, GAINS)
    if name not in _FACTORIES:
        raise unknown_name("kernel_init", name, _FACTORIES)
    return _FACTORIES[name](GAINS[activation])


def register_initializer(name: str, make: Callable[[float], Initializer]) -> None:
    """Adds an initialiser of one's own, as a value of `config.model.kernel_init`.

    A config file that calls this is all an ablation needs (docs/tutorial.md).

    Args:
      name: a new one, or one registered before, which is replaced.
      make: takes the gain of the activation and returns the initialiser.

    Raises:
      UserError: the name is one of `INITIALIZERS`.
    """
    if name in INITIALIZERS:
        raise UserError(f"kernel_init {name!r} is built in: register yours under another name")
    _FACTORIES[name] = make


def as_matrix(initializer: Initializer) -> Initializer:
    """Wraps an initialiser to see a kernel (height, width, in, out) as one matrix.

    For a fully connected layer written as a convolution: every output sees the whole map, so
    fan_out is `out`, not height * width * out.
    """

    def init(key: jax.Array, shape: Sequence[int], dtype: DTypeLike) -> jax.Array:
        height, width, features_in, features_out = shape
        matrix = initializer(key, (height * width * features_in, features_out), dtype)
        return matrix.reshape(shape)

    return init


def _delta_orthogonal(gain: float) -> Initializer:
    convolution = initializers.delta_orthogonal(gain)

    def init(key: jax.Array, shape: Sequence[int], dtype: DTypeLike) -> jax.Array:
        if shape[-2] > shape[-1]:
            raise UserError(
                f"delta_orthogonal needs in <= out channels, and a kernel is {tuple(shape)}.\n"
                "Use kernel_init 'orthogonal' for this network"
            )
        return convolution(key, shape, dtype)

    return _by_kind(init, initializers.orthogonal(gain))


def _by_kind(convolution: Initializer, matrix: Initializer) -> Initializer:
    def init(key: jax.Array, shape: Sequence[int], dtype: DTypeLike) -> jax.Array:
        return (matrix if len(shape) == 2 else convolution)(key, shape, dtype)

    return init


def _variance(
    scale: float,
    mode: Literal["fan_in", "fan_out", "fan_avg"],
    distribution: Literal["normal", "uniform"] = "normal",
) -> Initializer:
    return initializers.variance_scaling(scale, mode, distribution)


_FACTORIES: dict[str, Callable[[float], Initializer]] = {
    "paper": lambda gain: initializers.normal(0.01),
    "paper_variance": lambda gain: initializers.normal(0.1),
    "lecun": lambda gain: _variance(1.0, "fan_in"),
    "glorot_normal": lambda gain: _variance(1.0, "fan_avg"),
    "glorot_uniform": lambda gain: _variance(1.0, "fan_avg", "uniform"),
    "he_fan_in": lambda gain: _variance(gain**2, "fan_in"),
    "he_fan_out": lambda gain: _variance(gain**2, "fan_out"),
    "orthogonal": initializers.orthogonal,
    "delta_orthogonal": _delta_orthogonal,
    "lsuv": lambda gain: initializers.orthogonal(1.0),
    "torchvision": lambda gain: _by_kind(_variance(gain**2, "fan_out"), initializers.normal(0.01)),
    "chengyangfu": lambda gain: _by_kind(
        _variance(gain**2, "fan_out"), _variance(1 / 3, "fan_in", "uniform")
    ),
}
INITIALIZERS = tuple(_FACTORIES)
