"""From probabilities and labels to what is told: accuracies, classes, confusions."""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vgg_jax.data.folder import imagenet_classes
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError
from vgg_jax.evaluation.probabilities import dataset_probabilities
from vgg_jax.evaluation.scoring import Sums, accuracies, masked_sums, wilson_interval
from vgg_jax.weights.store import Weights

CONFUSIONS_SHOWN = 20


def measure_accuracy(
    nets: Sequence[Weights],
    source: Source,
    *,
    dataset: str,
    protocol: str = "center",
    scales: Sequence[int] | None = None,
    batch_size: int = 32,
    with_classes: bool = False,
    with_confusions: bool = False,
    progress: Callable[[range], Iterable[int]] = iter,
) -> dict[str, Any]:
    """Measures the accuracy of a network, or of the averaged probabilities of several.

    Args:
      nets: networks with the same classes and crop.
      source: labelled images; classes are matched by `aligned_labels`.
      dataset: what to call it.
      protocol: a name in `protocols.PROTOCOLS`.
      scales: shortest sides, averaged over; None for the first network's own.
      batch_size: see `dataset_probabilities`.
      with_classes: adds "per_class".
      with_confusions: adds "confusions".
      progress: see `dataset_probabilities`.

    Returns:
      `accuracy_report`, and the protocol: "dataset", "protocol", "scales", "crop".

    Raises:
      UserError: what `dataset_probabilities` and `aligned_labels` find wrong.
    """
    class_names = nets[0].class_names
    scales = tuple(scales or (nets[0].preprocessing.resize,))
    if source.labels is not None:  # found wrong before the work rather than after
        aligned_labels(source.labels, source.class_names, class_names)
    probabilities, found = dataset_probabilities(
        nets,
        source,
        protocol=protocol,
        scales=scales,
        batch_size=batch_size,
        progress=progress,
    )
    labels = aligned_labels(found, source.class_names, class_names)
    report = accuracy_report(probabilities, labels) | {
        "dataset": dataset,
        "protocol": protocol,
        "scales": scales,
        "crop": nets[0].preprocessing.crop,
    }
    if with_classes:
        report["per_class"] = per_class(probabilities, labels, class_names)
    if with_confusions:
        report["confusions"] = confusions(probabilities, labels, class_names)
    return report


def accuracy_report(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Returns the scores of float32 (N, classes) against int32 (N,).

    Returns:
      {"top1", "top5" (fractions), "loss" (nats), "examples", "top1_correct", "top5_correct",
      "top1_interval", "top5_interval" (95%, fractions)}.
    """
    sums = _sums(probabilities, labels)
    report: dict[str, Any] = accuracies({k: float(v) for k, v in sums.items()}, len(labels))
    for name in ("top1", "top5"):
        report[f"{name}_correct"] = int(sums[name])
        report[f"{name}_interval"] = wilson_interval(int(sums[name]), len(labels))
    return report


@jax.jit  # one program, where there would be thirty
def _sums(probabilities: jax.Array, labels: jax.Array) -> Sums:
    scores = jnp.log(jnp.maximum(probabilities, np.finfo(np.float32).tiny))
    return masked_sums(scores, labels, jnp.ones(len(labels), bool))


def per_class(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns {"class", "name", "examples", "top1", "top5"} of every class that has examples."""
    rows = []
    for label in np.unique(labels):
        here = labels == label
        scores = accuracy_report(probabilities[here], labels[here])
        kept = {key: scores[key] for key in ("examples", "top1", "top5")}
        rows.append({"class": int(label), "name": class_names[label], **kept})
    return rows


def confusions(
    probabilities: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns {"true", "predicted", "true_name", "predicted_name", "count"}, most frequent first.

    Of every wrong first guess; a pair is ordered.
    """
    guesses = probabilities.argmax(1)
    wrong = guesses != labels
    pairs = collections.Counter(zip(labels[wrong].tolist(), guesses[wrong].tolist(), strict=True))
    return [
        {
            "true": true,
            "predicted": guess,
            "true_name": class_names[true],
            "predicted_name": class_names[guess],
            "count": count,
        }
        for (true, guess), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]


def report_lines(report: dict[str, Any]) -> Iterator[str]:
    """Yields what `evaluate` prints of its report."""
    scales = ",".join(map(str, report["scales"]))
    yield (
        f"{report['dataset']}: {report['examples']:,} examples, {report['protocol']}, "
        f"scales {scales}, crop {report['crop']}"
    )
    for name in ("top1", "top5"):
        low, high = (1 - bound for bound in reversed(report[f"{name}_interval"]))
        yield (
            f"{name[:3]}-{name[3:]} error {1 - report[name]:.2%} (95%: {low:.2%} to {high:.2%}), "
            f"{report[f'{name}_correct']:,} right"
        )
    for row in report.get("per_class", []):
        yield (
            f"{row['class']:>5}  {row['name'][:32]:<32} {row['examples']:>6} examples  "
            f"top-1 {row['top1']:>7.2%}  top-5 {row['top5']:>7.2%}"
        )
    for row in report.get("confusions", [])[:CONFUSIONS_SHOWN]:
        yield f"{row['count']:>5} x {row['true_name']} taken for {row['predicted_name']}"


def aligned_labels(
    labels: np.ndarray, data_names: Sequence[str], class_names: Sequence[str]
) -> np.ndarray:
    """Returns labels that count a data set's classes as labels that count a network's.

    Classes are matched by name, or by wnid if the network's are ImageNet's 1000. A network
    whose classes have numbers for names is taken to count them as the data set does.

    Args:
      labels: int32 (N,), by `data_names`.
      data_names: the classes of the data set.
      class_names: the classes of the network.

    Raises:
      UserError: a class of the data which the network does not have, or has twice.
    """
    numbers = tuple(map(str, range(len(class_names))))
    if tuple(data_names) == tuple(class_names) or (
        tuple(class_names) == numbers and len(data_names) == len(numbers)
    ):
        return labels
    count = collections.Counter(class_names)
    index_of = {name: index for index, name in enumerate(class_names) if count[name] == 1}
    if tuple(class_names) == tuple(imagenet_classes().values()):
        index_of |= {wnid: index for index, wnid in enumerate(imagenet_classes())}
    mapping = np.full(len(data_names), -1, np.int32)
    for label in np.unique(labels):
        name = data_names[label]
        if name not in index_of:
            times = "twice" if count[name] else "not at all"
            raise UserError(
                f"the data has a class {name!r}, which the network has {times}: name class folders "
                f"after its classes, {class_names[0]!r} to {class_names[-1]!r}, or wnids"
            )
        mapping[label] = index_of[name]
    return mapping[labels]
