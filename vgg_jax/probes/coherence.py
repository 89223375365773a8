"""How alike the gradients at two inputs are: measured in any network, and in closed form for ReLU.

Balduzzi et al. (2017), arXiv 1702.08591, call gradients shattered where dL/dx at two similar inputs
has next to nothing in common, and along a line of inputs looks like white noise.

A gradient here is a row of an input's own Jacobian: the gradient of one of its outputs. The sum
over a batch would not do with batch norm: a linear readout behind it sums to a constant, whatever
the inputs, so its gradient is zero. The closed forms take the statistics of batch norm as constants
(running statistics in evaluation mode).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.probes.theory import relu_correlation, relu_gradient_correlation

Outputs = Callable[[jax.Array], jax.Array]  # (N, *shape) -> (N, K)

# --- Instruments -------------------------------------------------------------------------------


def equicorrelated(
    key: jax.Array, count: int, shape: Sequence[int], correlation: float
) -> jax.Array:
    """Draws inputs of which any two have exactly the same uncentred correlation.

    Args:
      key: of the random directions.
      count: number N of inputs, below the number of elements of one.
      shape: of an input.
      correlation: x.y / (|x| |y|) of any two, from 0 to 1.

    Returns:
      float32 (N, *shape), the mean square of each input 1.

    Raises:
      ValueError: there are not enough elements for so many directions.
    """
    size = int(np.prod(shape))
    if count >= size:
        raise ValueError(f"{count} inputs and what they share need more than {size} elements")
    directions, _ = jnp.linalg.qr(jax.random.normal(key, (size, count + 1)))
    shared, own = directions[:, :1], directions[:, 1:]
    inputs = jnp.sqrt(size) * (jnp.sqrt(correlation) * shared + jnp.sqrt(1 - correlation) * own)
    return inputs.T.reshape(count, *shape)


def input_gradients(outputs: Outputs, inputs: jax.Array) -> jax.Array:
    """Returns the gradient of every output of every input: (K, N, *shape).

    Args:
      outputs: a function that treats its inputs one by one, so without statistics of the batch.
      inputs: (N, *shape).
    """
    values, pull = jax.vjp(outputs, inputs)
    rows = jnp.eye(values.shape[1], dtype=values.dtype)
    return jax.vmap(lambda row: pull(jnp.broadcast_to(row, values.shape))[0])(rows)


def own_gradients(outputs: Outputs, inputs: jax.Array) -> jax.Array:
    """Returns what `input_gradients` does, for a function whose inputs act on each other too.

    Row i is the gradient of the outputs of input i with respect to input i, the other inputs held.
    It takes K * N backward passes.
    """
    values, pull = jax.vjp(outputs, inputs)
    count, rows = values.shape

    def gradient(place: jax.Array) -> jax.Array:
        row, example = place // count, place % count
        return pull(jnp.zeros_like(values).at[example, row].set(1))[0][example]

    found = jax.lax.map(gradient, jnp.arange(rows * count))
    return found.reshape(rows, *inputs.shape)


def pair_correlation(gradients: jax.Array) -> jax.Array:
    """Returns the uncentred correlation of two inputs' gradients, averaged over all pairs.

    Args:
      gradients: (K, N, *shape), N at least 2; inner products run over outputs and elements.

    Returns:
      float32 scalar.
    """
    count = gradients.shape[1]
    flat = jnp.moveaxis(gradients, 1, 0).reshape(count, -1).astype(jnp.float32)
    flat = flat / jnp.max(jnp.abs(flat), axis=1, keepdims=True)  # squares stay within float32
    unit = flat / jnp.linalg.norm(flat, axis=1, keepdims=True)
    products = jnp.matmul(unit, unit.T, precision="highest")
    return (jnp.sum(products) - jnp.trace(products)) / (count * (count - 1))


def line_derivatives(
    outputs: Outputs, start: jax.Array, direction: jax.Array, positions: jax.Array
) -> jax.Array:
    """Returns d outputs(start + t direction) / dt at every t of `positions`: (K, positions).

    Args:
      outputs: a function that treats its inputs one by one.
      start: an input, of any shape.
      direction: of the line, of that shape.
      positions: (positions,).
    """
    spread = positions.reshape(-1, *[1] * start.ndim)
    inputs = start + spread * direction
    _, derivatives = jax.jvp(outputs, (inputs,), (jnp.broadcast_to(direction, inputs.shape),))
    return derivatives.T


def autocorrelation(sequences: np.ndarray, lags: Sequence[int]) -> np.ndarray:
    """Returns the sample autocorrelation of sequences (..., T) at the given lags: (..., lags).

    r_k = sum_t (g_t - m) (g_{t+k} - m) / sum_t (g_t - m)^2 with m the mean of the sequence.
    """
    centred = np.asarray(sequences, np.float64)
    centred = centred - centred.mean(-1, keepdims=True)
    length = centred.shape[-1]
    products = [np.sum(centred[..., : length - k] * centred[..., k:], -1) for k in lags]
    return np.stack(products, -1) / np.sum(centred**2, -1)[..., None]


# --- Closed forms ------------------------------------------------------------------------------


def relu_kernels(
    gram: np.ndarray,
    depth: int,
    *,
    norm: str = "none",
    residual: bool = False,
    beta: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Follows inputs through a wide ReLU network at He's initialisation, gate by gate.

    z_0 is a linear image of the input; then, with W of variance 2 / fan-in,

        z_l = W relu(z_{l-1})               plain
        z_l = z_{l-1} + beta W relu(z_{l-1})   residual

    and with batch norm relu(BN(z)), its statistics frozen at those of many independent inputs of
    mean 0 and mean square 1. BN takes the mean out, which is 1/pi of the mean square behind ReLU.
    A convolution without pooling does the same to each position.

    Args:
      gram: x.y / elements of any two inputs, (..., n, n).
      depth: gates L.
      norm: "none" or "batch".
      residual: whether there is a shortcut around every layer.
      beta: factor of the branch beside the shortcut; without a shortcut it changes no correlation.

    Returns:
      Covariances of the elements of z_1, ..., z_L over weights, with batch norm about the mean of
      the independent inputs, and correlations of the gradients of these elements with respect to
      the inputs: two (L, ..., n, n). The latter are the leading term in the number of the input's
      elements: gradients are independent of the gates that they pass.
    """
    covariance = np.asarray(gram, np.float64)
    gradients = np.ones_like(covariance)
    shortcut, mean, normed = float(residual), 1 / np.pi, norm == "batch"
    variance = 1.0  # of the independent inputs' z
    kernels, correlations = [], []
    for _ in range(depth):
        # What the gates see; without batch norm its scale does not matter.
        seen = covariance / variance if normed else covariance
        root = np.sqrt(np.diagonal(seen, axis1=-2, axis2=-1))
        rows, columns = root[..., :, None], root[..., None, :]
        cosine = seen / (rows * columns)
        branch = rows * columns * relu_correlation(cosine)
        gain = beta**2
        if normed:
            branch = branch - mean * (rows + columns) + mean
            gain = beta**2 / variance
            variance = shortcut * variance + beta**2 * (1 - mean)
        gate = relu_gradient_correlation(cosine)
        covariance = shortcut * covariance + beta**2 * branch
        gradients = gradients * (shortcut + gain * gate) / (shortcut + gain)
        kernels.append(covariance)
        correlations.append(gradients)
    return np.stack(kernels), np.stack(correlations)


def gradient_correlation(
    correlation: float,
    depth: int,
    *,
    norm: str = "none",
    residual: bool = False,
    beta: float = 1.0,
) -> np.ndarray:
    """Returns the correlation of two inputs' gradients behind 1, ..., L gates: float64 (L,).

    The product of what each gate keeps, at the correlation that the inputs have there. Without
    norm and shortcut it falls as L^-3 in the end, since the inputs grow alike.

    Args:
      correlation: of the two inputs, uncentred.
      depth: see `relu_kernels`, as for all others.
      norm: "none" or "batch".
      residual: whether there is a shortcut around every layer.
      beta: factor of the branch.
    """
    gram = np.array([[1, correlation], [correlation, 1]])
    _, gradients = relu_kernels(gram, depth, norm=norm, residual=residual, beta=beta)
    return gradients[:, 0, 1]


def half_gates_law(
    depth: np.ndarray | int, *, norm: str = "none", residual: bool = False, beta: float = 1.0
) -> np.ndarray:
    """Returns the gradients' correlation if half of the active gates are shared in every layer.

    Balduzzi et al. (2017): 2^-L without a shortcut, (3/4)^L with it as commonly stated for beta 1,
    1 / (beta sqrt(L)) with shortcut and batch norm. The last is for beta^2 L far above 1. It takes
    1 for the variance that a branch adds, which is 1 - 1/pi once batch norm has taken the mean out:
    then the power is not 1/2 but pi / (2 (pi - 1)) = 0.73 (`gradient_correlation`).

    Args:
      depth: gates L.
      norm: "none" or "batch".
      residual: whether there is a shortcut around every layer.
      beta: factor of the branch.
    """
    depth = np.asarray(depth, np.float64)
    if not residual:
        return 2.0**-depth
    if norm == "batch":
        return 1 / (beta * np.sqrt(depth))
    return ((1 + beta**2 / 2) / (1 + beta**2)) ** depth


def line_covariance(
    positions: np.ndarray,
    depth: int,
    *,
    scale: float = 1.0,
    norm: str = "none",
    residual: bool = False,
    beta: float = 1.0,
) -> np.ndarray:
    """Returns the covariance of the derivatives of z_L along a line of inputs.

    The line is scale (a + t b), a and b orthogonal and of mean square 1. In a wide network z_L is a
    Gaussian process with the kernel K of `relu_kernels`, so that of dz/dt is d^2 K / (dt dt').

    Args:
      positions: t, (T,), in steps well above 1e-5.
      depth: gates L.
      scale: root mean square of the input at t = 0.
      norm: "none" or "batch".
      residual: whether there is a shortcut around every layer.
      beta: factor of the branch.

    Returns:
      float64 (T, T), of unit mean variance.
    """
    # Batch norm bends the kernel within 1.21^-L of its diagonal; float64 allows no smaller step.
    step, count = 3e-6, len(positions)
    near = np.concatenate([positions + step, positions - step])
    gram = scale**2 * (1 + np.outer(near, near))
    kernels, _ = relu_kernels(gram, depth, norm=norm, residual=residual, beta=beta)
    kernel = kernels[-1]
    above, below = slice(0, count), slice(count, None)
    covariance = kernel[above, above] + kernel[below, below]
    covariance = covariance - kernel[above, below] - kernel[below, above]
    return covariance / np.mean(np.diagonal(covariance))


def noise_covariance(kind: str, length: int) -> np.ndarray:
    """Returns the covariance of "white" noise or of "brown" noise, its running sum: (T, T)."""
    steps = np.arange(1, length + 1)
    return np.eye(length) if kind == "white" else np.minimum.outer(steps, steps).astype(float)


def gaussian_autocorrelation(
    covariance: np.ndarray, lags: Sequence[int], samples: int = 2000, seed: int = 0
) -> np.ndarray:
    """Returns the mean sample autocorrelation of Gaussian sequences: (lags,).

    That of a short sequence is far from the ratio of the expectations, so it is sampled.

    Args:
      covariance: of the sequence, (T, T).
      lags: at which.
      samples: sequences drawn.
      seed: of the draws.
    """
    values, vectors = np.linalg.eigh(covariance)
    normal = np.random.default_rng(seed).standard_normal((samples, len(values)))
    sequences = normal * np.sqrt(np.maximum(values, 0)) @ vectors.T
    return autocorrelation(sequences, lags).mean(0)
