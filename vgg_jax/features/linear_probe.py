"""How far a linear classifier gets on a network's features: Simonyan & Zisserman, appendix B."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.data.arrays import Subset
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError
from vgg_jax.evaluation.protocols import PROTOCOLS, ViewSpec
from vgg_jax.evaluation.scoring import wilson_interval
from vgg_jax.evaluation.views import view_averages
from vgg_jax.features.extractor import compute_endpoints, endpoint_shape, need_no_head
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights

PENULTIMATE = "relu7"


def image_descriptors(
    weights: Weights,
    source: Source,
    *,
    endpoint: str = PENULTIMATE,
    scales: Sequence[int],
    batch_size: int = 16,
    progress: Callable[[range], Iterable[int]] = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Describes images by features of a network, as the paper does (appendix B.1).

    The network sees the whole image at each scale, and its mirror image; the endpoint's map is
    averaged over positions and over the two, the averages of the scales are stacked, and the result
    is divided by its L2 norm.

    Args:
      weights: of the network.
      source: labelled images.
      endpoint: by default the 4096 values of the penultimate layer; one of the convolutional
        stages allows scales below the network's crop.
      scales: shortest sides Q in pixels.
      batch_size: images at a time.
      progress: wraps the examples' numbers as they are gone through, once a scale.

    Returns:
      float32 (N, scales x channels), rows of norm 1, and int32 (N,), as the source counts classes.

    Raises:
      UserError: an unknown endpoint, a scale too small for it, or an example that cannot be read.
    """
    model = weights.model
    stride = 2 ** len(model.conv_stages)
    smallest = stride if need_no_head(model, [endpoint]) else model.smallest_image
    if not scales or min(scales) < smallest:
        raise UserError(
            f"scales {','.join(map(str, scales))}: {endpoint} needs images of {smallest} pixels or "
            "more; give larger --scales, or an --endpoint of a convolutional stage"
        )
    function = functools.partial(
        _pooled,
        weights.variables,
        model=model,
        preprocessing=weights.preprocessing,
        endpoint=endpoint,
    )
    columns = []
    for scale in scales:
        values, labels = view_averages(
            [function],
            endpoint_shape(model, endpoint)[-1],
            source,
            parts=PROTOCOLS["dense"],
            specs=[ViewSpec(scale, scale, stride)],
            batch_size=batch_size,
            progress=progress,
        )
        columns.append(values)
    stacked = np.concatenate(columns, 1)
    norms = np.linalg.norm(stacked, axis=1, keepdims=True)
    # Features may all be zero, after a ReLU: such an image stays at the origin.
    return stacked / np.maximum(norms, np.finfo(np.float32).tiny), labels


@functools.partial(jax.jit, static_argnames=("model", "preprocessing", "endpoint", "mirrored"))
def _pooled(
    variables: dict,
    images: jax.Array,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    endpoint: str,
    mirrored: bool,
) -> jax.Array:
    """Maps uint8 (N, H, W, 3) to float32 (N, channels): the endpoint's spatial mean."""
    total = jnp.zeros(())
    views = [images, images[:, :, ::-1]] if mirrored else [images]
    for view in views:
        maps = compute_endpoints(
            variables, view, model=model, preprocessing=preprocessing, endpoints=(endpoint,)
        )
        total += maps[endpoint].mean((1, 2))
    return total / len(views)


def classify_linearly(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
) -> dict[str, Any]:
    """Trains a linear SVM (one class against the rest, C = 1) and scores it.

    Args:
      train_features: float32 (N, D).
      train_labels: int32 (N,), of two classes at least.
      test_features: float32 (M, D).
      test_labels: int32 (M,).

    Returns:
      {"train_examples", "examples", "classes", "top1", "top1_correct", "top1_interval" (95%),
      "class_recall" (the mean over classes of their accuracies, which the paper gives for
      Caltech)}.

    Raises:
      UserError: training images of one class only.
    """
    from sklearn.svm import LinearSVC  # slow to import

    if len(np.unique(train_labels)) < 2:
        raise UserError("a classifier needs training images of two classes or more")
    svm = LinearSVC(C=1.0, max_iter=10_000, random_state=0).fit(train_features, train_labels)
    right = svm.predict(test_features) == test_labels
    correct = int(right.sum())
    classes = np.unique(test_labels)
    recalls = [right[test_labels == label].mean() for label in classes]
    return {
        "train_examples": len(train_labels),
        "examples": len(test_labels),
        "classes": len(classes),
        "top1": correct / len(test_labels),
        "top1_correct": correct,
        "top1_interval": wilson_interval(correct, len(test_labels)),
        "class_recall": float(np.mean(recalls)),
    }


def few_a_class(source: Source, count: int, seed: int) -> Subset:
    """Draws `count` examples of each class.

    Raises:
      UserError: a class has fewer.
    """
    labels = source.labels
    if labels is None:
        labels = np.array([source.load(index)[1] for index in range(len(source))])
    return Subset(source, draw_few(labels, count, seed))


def draw_few(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the indices of `count` examples of each class, ascending.

    Raises:
      UserError: a class has fewer.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if not 0 < count <= len(members):
            raise UserError(
                f"{count} images per class are wanted, and class {label} has {len(members)}: "
                f"give 1 to {len(members)}"
            )
        chosen.append(rng.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))
