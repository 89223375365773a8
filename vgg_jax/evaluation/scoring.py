"""Accuracy as masked sums: every example counts once, padding never."""

import math

import jax
import jax.numpy as jnp
import optax

Sums = dict[str, jax.Array]


def masked_sums(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> Sums:
    """Returns what one batch adds to the scores.

    Args:
      logits: float (N, classes).
      labels: int (N,).
      mask: bool (N,), False for padding.

    Returns:
      {"loss": float32 sum of cross entropies, "top1", "top5", "examples": int32 counts}. Ties
      count against the model: a class scored equal to the true one is placed before it.
    """
    logits = logits.astype(jnp.float32)
    true = jnp.take_along_axis(logits, labels[:, None], axis=1)
    # Written so that a NaN among the logits is a miss: no comparison with it is true.
    behind = jnp.sum(logits < true, axis=1)
    rank = logits.shape[1] - 1 - behind
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {
        "loss": jnp.sum(jnp.where(mask, loss, 0.0)),
        "top1": jnp.sum(mask & (rank < 1), dtype=jnp.int32),
        "top5": jnp.sum(mask & (rank < 5), dtype=jnp.int32),
        "examples": jnp.sum(mask, dtype=jnp.int32),
    }


def accuracies(sums: dict[str, float], expected_examples: int) -> dict[str, float]:
    """Returns mean loss, top-1 and top-5 accuracy as fractions, and the number of examples.

    Raises:
      AssertionError: the sums do not cover every example exactly once.
    """
    examples = int(sums["examples"])
    assert examples == expected_examples, f"scored {examples} of {expected_examples} examples"
    means = {name: float(sums[name]) / examples for name in ("loss", "top1", "top5")}
    return means | {"examples": examples}


def wilson_interval(correct: int, examples: int) -> tuple[float, float]:
    """Returns the 95% score interval of a fraction (Wilson 1927), as fractions.

    It accounts for the choice of examples alone, as if they were drawn at random.
    """
    z = 1.959964  # the 97.5th percentile of the normal distribution
    share = correct / examples
    centre = share + z * z / (2 * examples)
    half = z * math.sqrt(share * (1 - share) / examples + (z / (2 * examples)) ** 2)
    scale = 1 + z * z / examples
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
