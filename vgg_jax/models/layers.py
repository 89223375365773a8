"""The layers of a VGG network: convolution, normalisations, window-dense, dropout."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from vgg_jax.errors import UserError
from vgg_jax.models.initializers import Initializer, as_matrix
from vgg_jax.ops.conv import conv2d


class Conv(nn.Module):
    """A `kernel_size` x `kernel_size` convolution, stride 1, zero padding to the same size, bias.

    Parameters: `kernel` (kernel_size, kernel_size, in, features) and `bias` (features,).

    Attributes:
      before_norm: whether a normalisation by batch statistics follows, which takes the bias out
        again: its gradient is then zero, and not the rounding errors of a sum over the batch.
    """

    features: int
    kernel_size: int
    kernel_init: Initializer
    dtype: DTypeLike
    param_dtype: DTypeLike
    before_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (N, H, W, in) to (N, H, W, features)."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        if self.before_norm:
            bias = lax.stop_gradient(bias)
        return conv2d(x, kernel.astype(self.dtype)) + bias.astype(self.dtype)


class WindowDense(nn.Module):
    """A fully connected layer over a window of the map, slid over every position of it.

    This is a fully connected layer as a convolution (Simonyan & Zisserman 2014, section 3.2):
    `window` x `window`, stride 1, no padding.

    Parameters: `kernel` (window, window, in, features) and `bias` (features,).
    """

    features: int
    window: int
    kernel_init: Initializer
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (N, H, W, in) to (N, H - window + 1, W - window + 1, features)."""
        shape = (self.window, self.window, x.shape[-1], self.features)
        kernel = self.param("kernel", as_matrix(self.kernel_init), shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        matrix = kernel.astype(self.dtype).reshape(-1, self.features)
        return _windows(x, self.window) @ matrix + bias.astype(self.dtype)


def _windows(x: jax.Array, side: int) -> jax.Array:
    """Every window of (N, H, W, C), flattened: (N, H - side + 1, W - side + 1, side * side * C).

    Copies that feed a matrix product: 3 to 7 times faster on a CPU than XLA's 7x7 convolution, and
    small beside the maps of the first stage.
    """
    rows, columns = x.shape[1] - side + 1, x.shape[2] - side + 1
    if rows == columns == 1:
        return x.reshape(x.shape[0], 1, 1, -1)
    shifted = [x[:, i : i + rows, j : j + columns] for i in range(side) for j in range(side)]
    return jnp.concatenate(shifted, axis=-1)


class BatchNorm(nn.Module):
    """Batch normalisation over batch, height and width (Ioffe & Szegedy 2015).

    The arithmetic is in float32 (or wider) whatever the compute dtype. The variance is the biased
    one, both in use and in its running average. `momentum` is Flax's: running = momentum *
    running + (1 - momentum) * batch, so 0.9 here is 0.1 in PyTorch.

    Parameters: `scale`, `bias` (C,). Collection `batch_stats`: `mean`, `var` (C,).

    Attributes:
      group: None for statistics of the whole batch; k for those of each k consecutive examples.
        The running averages then take the mean of the groups' means and variances.
      axis_name: a mapped axis (pmap) that the batch is spread over, or None. Whole-batch
        statistics and running averages are averaged over it.
    """

    momentum: float
    epsilon: float
    group: int | None
    axis_name: str | None
    dtype: DTypeLike
    param_dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalises (N, H, W, C).

        Raises:
          UserError: N is not a multiple of `group`.
        """
        features = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, features, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, features, self.param_dtype)
        stats_dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, stats_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, stats_dtype)

        if not train:
            inverse = lax.rsqrt(running_var.value + self.epsilon)
            y = (x - running_mean.value) * (inverse * scale) + bias
            return y.astype(self.dtype)

        size = x.shape[0] if self.group is None else self.group
        if x.shape[0] % size:
            raise UserError(
                f"batch of {x.shape[0]} examples is not a multiple of model.norm_group={size}"
            )
        bound = self.axis_name is not None and not self.is_initializing()
        across = self.axis_name if bound and self.group is None else None
        y, mean, var = _normalize_groups(x, scale, bias, self.epsilon, size, across)

        if not self.is_initializing():
            batch_mean, batch_var = (lax.stop_gradient(m).mean(0) for m in (mean, var))
            if bound and self.group is not None:
                batch_mean, batch_var = lax.pmean((batch_mean, batch_var), self.axis_name)
            for running, batch in ((running_mean, batch_mean), (running_var, batch_var)):
                running.value = self.momentum * running.value + (1 - self.momentum) * batch

        return y.astype(self.dtype)


# Its own gradient: that of autodiff sums over the batch twice as often, and on a CPU each sum
# computes anew what leads to it (docs/performance.md).
@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _normalize_groups(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    size: int,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each `size` consecutive examples of (N, H, W, C) by their moments.

    Returns:
      The result, in float32 or wider; mean and biased variance (N / size, C), for the running
      averages: they pass no gradient.
    """
    return _normalize_forward(x, scale, bias, epsilon, size, axis_name)[0]


def _normalize_forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    size: int,
    axis_name: str | None,
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], tuple[jax.Array, ...]]:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = _group_means(wide, size, axis_name)
    centred = wide - _spread(mean, size)
    if x.dtype.itemsize <= 2:
        # One pass. If the mean is so large that this loses digits, half precision has lost them.
        var = _group_means(jnp.square(wide), size, axis_name) - jnp.square(mean)
        var = jnp.maximum(var, 0)
    else:
        var = _group_means(jnp.square(centred), size, axis_name)
    inverse = lax.rsqrt(var + epsilon)
    y = centred * _spread(inverse * scale, size) + bias
    return (y, mean, var), (x, scale, mean, inverse)


def _normalize_backward(
    epsilon: float,
    size: int,
    axis_name: str | None,
    residuals: tuple[jax.Array, ...],
    gradients: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, mean, inverse = residuals
    dy = gradients[0]
    normalized = (x.astype(dy.dtype) - _spread(mean, size)) * _spread(inverse, size)
    terms = _group_means(dy, size, None), _group_means(dy * normalized, size, None)
    count = size * math.prod(x.shape[1:3])
    d_bias, d_scale = (count * term.sum(0) for term in terms)
    bias_term, scale_term = lax.pmean(terms, axis_name) if axis_name is not None else terms
    dx = dy - _spread(bias_term, size) - normalized * _spread(scale_term, size)
    dx = _spread(inverse * scale, size) * dx
    return dx.astype(x.dtype), d_scale.astype(scale.dtype), d_bias.astype(scale.dtype)


_normalize_groups.defvjp(_normalize_forward, _normalize_backward)


def _group_means(x: jax.Array, size: int, axis_name: str | None) -> jax.Array:
    """Means of (N, H, W, C) over each `size` examples, height and width: (N / size, C)."""
    means = x.reshape(-1, size, *x.shape[1:]).mean((1, 2, 3))
    return means if axis_name is None else lax.pmean(means, axis_name)


def _spread(groups: jax.Array, size: int) -> jax.Array:
    """(N / size, C), one per group, to (N, 1, 1, C), one per example."""
    return jnp.repeat(groups, size, axis=0)[:, None, None]


class Dropout(nn.Module):
    """Inverted dropout: zeroes with probability `rate`, scales the rest so that the mean stays.

    Eight random bits per element, so the rate in effect is `rate` rounded to a multiple of 1/256.

    Attributes:
      rate: probability of a zero.
      axis_name: a mapped axis (pmap) that the batch is spread over, or None. The mask is drawn for
        the whole batch and each device takes its part, so that it does not depend on the layout.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Returns x itself when not training or at rate 0; else draws from the rng `dropout`."""
        if not train or self.rate == 0:
            return x
        kept = max(1, round(256 * (1 - self.rate)))
        key = self.make_rng("dropout")
        if self.axis_name is None:
            bits = jax.random.bits(key, x.shape, jnp.uint8)
        else:
            count = len(x)
            shape = (lax.axis_size(self.axis_name) * count, *x.shape[1:])
            first = lax.axis_index(self.axis_name) * count
            whole = jax.random.bits(key, shape, jnp.uint8)
            bits = lax.dynamic_slice_in_dim(whole, first, count)
        return jnp.where(bits <= kept - 1, x * (256 / kept), 0)


@jax.custom_vjp
def guided_relu(x: jax.Array) -> jax.Array:
    """ReLU that hands back only the positive part of a gradient, where its input was positive.

    Guided backpropagation, Springenberg et al. (2015), arXiv 1412.6806, section 3.4: the values are
    those of ReLU; the gradient is not that of any function.
    """
    return nn.relu(x)


def _guided_relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return nn.relu(x), x > 0


def _guided_relu_backward(positive: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(positive, nn.relu(gradient), 0),)


guided_relu.defvjp(_guided_relu_forward, _guided_relu_backward)


def local_response_norm(
    x: jax.Array, *, k: float = 2.0, n: int = 5, alpha: float = 1e-4, beta: float = 0.75
) -> jax.Array:
    """Local response normalisation across channels, Krizhevsky et al. (2012), section 3.3.

    y_c = x_c / (k + alpha * sum of x_j^2 over the n channels j around c)^beta. As in that formula,
    and unlike in some libraries, alpha is not divided by n.

    Args:
      x: (..., C).
      k: additive constant.
      n: window in channels, odd; channels outside count as zero.
      alpha: weight of the sum of squares.
      beta: exponent.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    padding = [(0, 0)] * (x.ndim - 1) + [(n // 2, n // 2)]
    squares = jnp.pad(jnp.square(wide), padding)
    channels = x.shape[-1]
    window = sum(squares[..., i : i + channels] for i in range(n))
    return (wide * (k + alpha * window) ** -beta).astype(x.dtype)
