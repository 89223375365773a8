"""Counts, intervals, tables, and whose class is whose."""

import numpy as np
import pytest

from tests.evaluation.nets import NAMES, Pictures, tiny_weights
from vgg_jax.data.folder import imagenet_classes
from vgg_jax.errors import UserError
from vgg_jax.evaluation.accuracy import (
    accuracy_report,
    aligned_labels,
    confusions,
    measure_accuracy,
    per_class,
    report_lines,
)
from vgg_jax.evaluation.scoring import wilson_interval

PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.0, 1.0, 0.0]],
    np.float32,
)
LABELS = np.array([0, 0, 0, 1, 2], np.int32)


def test_accuracy_report():
    report = accuracy_report(PROBABILITIES, LABELS)
    assert (report["examples"], report["top1_correct"], report["top5_correct"]) == (5, 2, 5)
    assert (report["top1"], report["top5"]) == (0.4, 1.0)
    assert report["top1_interval"] == wilson_interval(2, 5)
    likely = -np.log([0.7, 0.3, 0.2, 0.8, np.finfo(np.float32).tiny])
    assert report["loss"] == pytest.approx(likely.mean(), rel=1e-5)


def test_per_class_and_confusions():
    rows = per_class(PROBABILITIES, LABELS, NAMES)
    assert [(row["name"], row["examples"], row["top1"]) for row in rows] == [
        ("ant", 3, pytest.approx(1 / 3)),
        ("bee", 1, 1.0),
        ("cat", 1, 0.0),
    ]
    pairs = confusions(PROBABILITIES, LABELS, NAMES)
    assert [(p["true_name"], p["predicted_name"], p["count"]) for p in pairs] == [
        ("ant", "bee", 2),
        ("cat", "bee", 1),
    ]


def test_accuracy_names_its_protocol():
    report = measure_accuracy(
        [tiny_weights()],
        Pictures(),
        dataset="pictures",
        protocol="dense",
        with_classes=True,
        with_confusions=True,
    )
    assert report["examples"] == 9
    assert report["scales"] == (10,)
    assert sum(row["examples"] for row in report["per_class"]) == 9
    assert sum(p["count"] for p in report["confusions"]) == 9 - report["top1_correct"]
    lines = list(report_lines(report))
    assert lines[0] == "pictures: 9 examples, dense, scales 10, crop 8"
    assert lines[1].startswith("top-1 error ")
    assert f"{report['top1_correct']} right" in lines[1]
    assert len(lines) == 3 + 3 + len(report["confusions"])


class TestAlignedLabels:
    labels = np.array([1, 0, 1], np.int32)

    def test_same_classes(self):
        assert aligned_labels(self.labels, NAMES, NAMES) is self.labels

    def test_by_name_in_another_order(self):
        np.testing.assert_array_equal(aligned_labels(self.labels, ("cat", "bee"), NAMES), [1, 2, 1])

    def test_by_wnid_or_name_of_imagenet(self):
        names = tuple(imagenet_classes().values())
        data = ("n01443537", "tench")
        np.testing.assert_array_equal(aligned_labels(self.labels, data, names), [0, 1, 0])

    def test_numbers_count_as_the_data_does(self):
        np.testing.assert_array_equal(
            aligned_labels(self.labels, ("a", "b"), ("0", "1")), [1, 0, 1]
        )

    def test_a_class_that_no_example_has_may_be_unknown(self):
        data = ("bee", "ant", "unused")
        np.testing.assert_array_equal(aligned_labels(self.labels, data, NAMES), [0, 1, 0])

    def test_unknown_and_ambiguous_classes_are_named(self):
        with pytest.raises(UserError, match="'dog', which the network has not at all"):
            aligned_labels(self.labels, ("ant", "dog"), NAMES)
        with pytest.raises(UserError, match="'crane', which the network has twice"):
            aligned_labels(self.labels, ("tench", "crane"), tuple(imagenet_classes().values()))
