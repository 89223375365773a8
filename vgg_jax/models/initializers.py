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
    torchvision       he_fan_out for convolutions, std 0.01 for matrices   torchvision's vgg.py
    chengyangfu       he_fan_out for convolutions, PyTorch's default for matrices: uniform,
                      1/(3 fan_in)   github.com/chengyangfu/pytorch-vgg-cifar10

fan_in = height * width * in and fan_out = height * width * out. LeCun and Glorot have no gain
in their papers, so none here.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.nn import initializers
from jax.typing import DTypeLike

from vgg_jax.errors import UserError, unknown_name

if TYPE_CHECKING:
    from vgg_jax.models.vgg import VGG

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
    """Returns the initialiser of that name with the gain of the activation where it has one.

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


def lsuv(
    model: "VGG",
    variables: Mapping[str, Any],
    images: jax.Array,
    *,
    tolerance: float = 0.1,
    max_iterations: int = 10,
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Rescales the weights so that every layer's output has variance 1 on a batch.

    Layer-sequential unit-variance initialisation, Mishkin & Matas (2015), arXiv 1511.06422,
    algorithm 1: from input to output, a layer's kernel is divided by the standard deviation of
    its output (bias included, before normalisation and activation) until the variance is near 1.
    It wants the orthonormal start of kernel_init "lsuv". Dropout is off; batch normalisation uses
    the statistics of the batch.

    Args:
      model: the network.
      variables: its variables, as `model.init` gives them.
      images: a batch of training images (N, H, W, 3), preprocessed.
      tolerance: how far from 1 a variance may stay.
      max_iterations: rescalings of one layer at most.

    Returns:
      The variables with rescaled kernels; and for each layer the variances measured, first to
      last: one more than the rescalings it took. A layer with zero biases takes one at most.

    Raises:
      UserError: the output of a layer is constant or not finite.
    """
    plain = model.clone(dropout=0.0, remat=False)
    factors, variances = jax.device_get(
        _unit_variances(plain, tolerance, max_iterations, variables, images)
    )
    measured = {name: values[~np.isnan(values)].tolist() for name, values in variances.items()}
    for name in model.layer_names:
        if not measured[name] or not 0 < measured[name][-1] < float("inf"):
            variance = measured[name][-1] if measured[name] else float("nan")
            raise UserError(
                f"LSUV: the output of {name} has variance {variance} on this batch.\n"
                "Give it varied, finite images, or use another kernel_init"
            )
    params = {
        name: leaves | {"kernel": leaves["kernel"] * factors[name]} if name in factors else leaves
        for name, leaves in variables["params"].items()
    }
    return {**variables, "params": params}, {name: measured[name] for name in model.layer_names}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _unit_variances(
    model: "VGG",
    tolerance: float,
    max_iterations: int,
    variables: Mapping[str, Any],
    images: jax.Array,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Returns the factor of each kernel, and the variances measured, NaN past the last of them.

    One forward pass does: a layer's output is its product with the kernel, which scales as the
    kernel does, and a bias; the next layer sees the rescaled output.
    """
    layers = model.layer_names
    factors: dict[str, jax.Array] = {}
    measured: dict[str, jax.Array] = {}

    def rescale(
        layer: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        output = layer(*args, **kwargs)
        name = context.module.name
        if name not in layers or context.method_name != "__call__":
            return output
        bias = variables["params"][name]["bias"].astype(jnp.float32)
        product = output.astype(jnp.float32) - bias

        def goes_on(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
            count, _, variances = state
            variance = variances[count]
            usable = (variance > 0) & (variance < jnp.inf)
            return usable & (jnp.abs(variance - 1) > tolerance) & (count < max_iterations)

        def iteration(state: tuple[jax.Array, jax.Array, jax.Array]) -> Any:
            count, factor, variances = state
            factor = factor / jnp.sqrt(variances[count])
            variance = (factor * product + bias).var()
            return count + 1, factor, variances.at[count + 1].set(variance)

        first = (product + bias).var()
        variances = jnp.full(max_iterations + 1, jnp.nan).at[0].set(first)
        start = (jnp.int32(0), jnp.float32(1), variances)
        _, factors[name], measured[name] = jax.lax.while_loop(goes_on, iteration, start)
        return (factors[name] * product + bias).astype(output.dtype)

    with nn.intercept_methods(rescale):
        model.apply(variables, images, train=True, mutable=["batch_stats"])
    return factors, measured


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
