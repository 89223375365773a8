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
from vgg_jax.xla import NETWORK, on_cpu

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
    smallest = _stride(model) if need_no_head(model, [endpoint]) else model.smallest_image
    if not scales or min(scales) < smallest:
        raise UserError(
            f"scales {','.join(map(str, scales))}: {endpoint} needs images of {smallest} pixels or "
            "more; give larger --scales, or an --endpoint of a convolutional stage"
        )
    columns = []
    for scale in scales:
        values, labels = pooled_endpoints(
            weights,
            source,
            endpoints=(endpoint,),
            scale=scale,
            batch_size=batch_size,
            progress=progress,
        )
        columns.append(values[endpoint])
    return stack(columns), labels


def pooled_endpoints(
    weights: Weights,
    source: Source,
    *,
    endpoints: Sequence[str],
    scale: int,
    batch_size: int = 16,
    progress: Callable[[range], Iterable[int]] = iter,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Averages endpoints of the whole image over positions and over the image and its mirror image.

    One forward pass of each of the two gives all endpoints.

    Args:
      weights: of the network.
      source: labelled images.
      endpoints: names such as "pool4", "relu7".
      scale: shortest side Q in pixels; the longer side is that of `dense_view`.
      batch_size: images at a time.
      progress: wraps the examples' numbers as they are gone through.

    Returns:
      For each endpoint float32 (N, channels); and int32 (N,), as the source counts classes.

    Raises:
      UserError: an unknown endpoint, a scale too small for it, or an example that cannot be read.
    """
    need_no_head(weights.model, endpoints)  # names an unknown endpoint
    widths = [endpoint_shape(weights.model, endpoint)[-1] for endpoint in endpoints]
    function = functools.partial(
        _compiled(),
        weights.variables,
        model=weights.model,
        preprocessing=weights.preprocessing,
        endpoints=tuple(endpoints),
    )
    values, labels = view_averages(
        [function],
        sum(widths),
        source,
        parts=PROTOCOLS["dense"],
        specs=[ViewSpec(scale, scale, _stride(weights.model))],
        batch_size=batch_size,
        progress=progress,
    )
    columns = np.split(values, np.cumsum(widths)[:-1], axis=1)
    return dict(zip(endpoints, columns, strict=True)), labels


def stack(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Puts values side by side and divides each row by its L2 norm.

    Args:
      columns: float32 (N, D) each, such as an endpoint at several scales.

    Returns:
      float32 (N, sum of D). A row of zeros, which a ReLU allows, stays as it is.
    """
    stacked = np.concatenate(columns, 1)
    norms = np.linalg.norm(stacked, axis=1, keepdims=True)
    return stacked / np.maximum(norms, np.finfo(np.float32).tiny)


def _stride(model: VGG) -> int:
    return 2 ** len(model.conv_stages)


@functools.cache  # on the first call: to ask for the backend when imported would start it
def _compiled() -> Callable[..., jax.Array]:
    static = ("model", "preprocessing", "endpoints", "mirrored")
    return jax.jit(_pooled, static_argnames=static, compiler_options=on_cpu(NETWORK))


def _pooled(
    variables: dict,
    images: jax.Array,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    endpoints: tuple[str, ...],
    mirrored: bool,
) -> jax.Array:
    """Maps uint8 (N, H, W, 3) to float32 (N, sum of channels): the endpoints' spatial means."""
    views = jnp.concatenate([images, images[:, :, ::-1]]) if mirrored else images
    maps = compute_endpoints(
        variables, views, model=model, preprocessing=preprocessing, endpoints=endpoints
    )
    means = jnp.concatenate([maps[endpoint].mean((1, 2)) for endpoint in endpoints], 1)
    return means.reshape(-1, len(images), means.shape[1]).mean(0)


def classify_linearly(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    *,
    costs: Sequence[float] = (1.0,),
) -> dict[str, Any]:
    """Trains a linear SVM (one class against the rest) and scores it.

    Args:
      train_features: float32 (N, D).
      train_labels: int32 (N,), of two classes at least.
      test_features: float32 (M, D).
      test_labels: int32 (M,).
      costs: values of C. Of several, the one with the best mean over classes on a fifth of the
        training images of each class, held out, is taken (of equals the smallest); the classifier
        then learns from all training images.

    Returns:
      {"train_examples", "examples", "classes", "c", "top1", "top1_correct", "top1_interval" (95%),
      "class_recall" (the mean over classes of their accuracies, which the paper gives for
      Caltech)}.

    Raises:
      UserError: training images of one class only, or to choose C a class with a single one.
    """
    if len(np.unique(train_labels)) < 2:
        raise UserError("a classifier needs training images of two classes or more")
    cost = costs[0]
    if len(costs) > 1:
        held_out = _held_out(train_labels)
        cost = max(
            sorted(costs),
            key=lambda each: class_recall(
                train_labels[held_out],
                _svm_predictions(
                    train_features[~held_out],
                    train_labels[~held_out],
                    train_features[held_out],
                    each,
                ),
            ),
        )
    predicted = _svm_predictions(train_features, train_labels, test_features, cost)
    correct = int((predicted == test_labels).sum())
    return {
        "train_examples": len(train_labels),
        "examples": len(test_labels),
        "classes": len(np.unique(test_labels)),
        "c": cost,
        "top1": correct / len(test_labels),
        "top1_correct": correct,
        "top1_interval": wilson_interval(correct, len(test_labels)),
        "class_recall": class_recall(test_labels, predicted),
    }


def class_recall(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the mean over classes of the share of their examples that is predicted right."""
    right = predicted == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _svm_predictions(
    features: np.ndarray, labels: np.ndarray, test_features: np.ndarray, cost: float
) -> np.ndarray:
    from sklearn.svm import LinearSVC  # slow to import

    svm = LinearSVC(C=cost, max_iter=10_000, random_state=0).fit(features, labels)
    return svm.predict(test_features)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Chooses a fifth of each class, at least one: bool (N,)."""
    chosen = np.zeros(len(labels), bool)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(f"to choose C, two training images are wanted: class {label} has one")
        chosen[rng.permutation(members)[: max(1, len(members) // 5)]] = True
    return chosen


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
