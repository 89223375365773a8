"""How alike two networks see the same examples: features compared without matching their channels.

Kornblith, Norouzi, Lee & Hinton (2019), arXiv 1905.00414: centred kernel alignment with a linear
kernel, here with the unbiased estimate of Song et al. (2012) in both places, which stays near 0 for
unrelated features of more channels than examples.
"""

import numpy as np


def linear_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the alignment of features, 1 for equal ones and about 0 for unrelated ones.

    It does not change if either is rotated, shifted or scaled. The same examples in the same order.

    Args:
      first: (examples, channels), four examples or more.
      second: (examples, other channels).
    """
    kernels = [_kernel(features) for features in (first, second)]
    own = [_independence(kernel, kernel) for kernel in kernels]
    return float(_independence(*kernels) / np.sqrt(own[0] * own[1]))


def best_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns for each channel of `first` its largest absolute correlation with one of `second`.

    Args:
      first: (examples, channels).
      second: (examples, other channels); constant channels of either correlate with none.

    Returns:
      (channels,) from 0 to 1.
    """
    units = []
    for features in (first, second):
        centred = features - features.mean(0, dtype=np.float64)
        length = np.linalg.norm(centred, axis=0)
        units.append(centred / np.where(length > 0, length, 1))
    return np.abs(units[0].T @ units[1]).max(1)


def _kernel(features: np.ndarray) -> np.ndarray:
    """Returns the products of examples, float64 (examples, examples), without their diagonal."""
    centred = features - features.mean(0, dtype=np.float64)
    kernel = centred @ centred.T
    np.fill_diagonal(kernel, 0)
    return kernel


def _independence(first: np.ndarray, second: np.ndarray) -> float:
    """Estimates the Hilbert-Schmidt criterion without bias, but for a factor n (n - 3)."""
    n = len(first)
    sums = first.sum() * second.sum() / ((n - 1) * (n - 2))
    return np.vdot(first, second) + sums - 2 * first.sum(0) @ second.sum(0) / (n - 2)
