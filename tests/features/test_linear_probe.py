"""Descriptors from their definition, and the drawing of images."""

import numpy as np
import pytest

from tests.evaluation.nets import Pictures, tiny_weights
from vgg_jax import extract_features
from vgg_jax.data.arrays import Subset
from vgg_jax.data.preprocessing import resize_shortest
from vgg_jax.errors import UserError
from vgg_jax.features.linear_probe import (
    class_recall,
    classify_linearly,
    few_a_class,
    image_descriptors,
    pooled_endpoints,
    stack,
)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.mark.parametrize("endpoint", ["relu2_1", "fc8"])
def test_descriptors_by_their_definition(weights, endpoint):
    pictures = Subset(Pictures(), np.array([1, 6]))  # one wide, one of the network's size
    found, labels = image_descriptors(weights, pictures, endpoint=endpoint, scales=(8, 12))
    np.testing.assert_array_equal(labels, [1, 0])
    for index in range(2):
        whole = np.asarray(pictures.load(index)[0])
        rows = []
        for scale in (8, 12):
            view = resize_shortest(whole, scale)
            height, width = (max(scale, n // 4 * 4) for n in view.shape[:2])
            top, left = (view.shape[0] - height) // 2, (view.shape[1] - width) // 2
            view = view[top : top + height, left : left + width]
            both = np.stack([view, view[:, ::-1]])
            rows.append(extract_features(weights, both, [endpoint])[endpoint].mean((0, 1, 2)))
        wanted = np.concatenate(rows)
        np.testing.assert_allclose(found[index], wanted / np.linalg.norm(wanted), atol=1e-5)


def test_one_pass_gives_all_endpoints(weights):
    pictures = Subset(Pictures(), np.array([1, 4]))
    found, labels = pooled_endpoints(weights, pictures, endpoints=("pool1", "fc8"), scale=8)
    np.testing.assert_array_equal(labels, [1, 1])
    assert {name: values.shape for name, values in found.items()} == {
        "pool1": (2, 4),
        "fc8": (2, 3),
    }
    for name, values in found.items():
        alone, _ = image_descriptors(weights, pictures, endpoint=name, scales=(8,))
        np.testing.assert_allclose(stack([values]), alone, atol=1e-6)


def test_stacked_rows_have_norm_1_and_zeros_stay():
    stacked = stack([np.array([[3.0, 0], [0, 0]], np.float32), np.array([[4.0], [0]], np.float32)])
    np.testing.assert_allclose(stacked, [[0.6, 0, 0.8], [0, 0, 0]], rtol=1e-6)


def test_images_below_the_head_s_size_need_a_convolutional_endpoint(weights):
    square = Subset(Pictures(), np.array([0, 4, 5]))
    assert image_descriptors(weights, square, endpoint="pool2", scales=(4,))[0].shape == (3, 8)
    with pytest.raises(UserError, match="fc8 needs images of 8 pixels"):
        image_descriptors(weights, square, endpoint="fc8", scales=(4,))


def test_few_a_class_draws_as_the_seed_says():
    pictures = Pictures()
    one, same, other = (few_a_class(pictures, 2, seed) for seed in (0, 0, 1))
    assert sorted(one.labels) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(one.labels, same.labels)
    assert [one.load(i)[0].size for i in range(6)] != [other.load(i)[0].size for i in range(6)]
    assert [one.load(i)[1] for i in range(6)] == one.labels.tolist()
    with pytest.raises(UserError, match="class 0 has 3"):
        few_a_class(pictures, 4, 0)


def test_scores_count_and_average_over_classes():
    features = np.eye(2, dtype=np.float32)
    test = features[[0, 0, 0, 0, 1, 0]]
    scores = classify_linearly(features, np.array([3, 7]), test, np.array([3, 3, 3, 3, 7, 7]))
    assert (scores["train_examples"], scores["examples"], scores["top1_correct"]) == (2, 6, 5)
    assert scores["class_recall"] == pytest.approx((1 + 1 / 2) / 2)
    with pytest.raises(UserError, match="two classes"):
        classify_linearly(features, np.array([3, 3]), test, np.zeros(6))


def test_c_is_chosen_on_the_training_images():
    """One class lies within the other along an axis of tiny variance: only a large C finds it."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    features = rng.normal(size=(100, 2)) * (1, 1e-3) + np.outer(labels, (0, 0.01))
    arguments = (features[::2], labels[::2], features[1::2], labels[1::2])
    chosen = classify_linearly(*arguments, costs=(1.0, 1e6))
    assert chosen["c"] == 1e6
    assert chosen["class_recall"] > 0.9 > 0.8 > classify_linearly(*arguments)["class_recall"]
    assert classify_linearly(*arguments, costs=(1e6, 2e6))["c"] == 1e6  # of equals the smallest
    with pytest.raises(UserError, match="class 1 has one"):
        classify_linearly(features, np.eye(100, dtype=int)[5], *arguments[2:], costs=(1.0, 2.0))


def test_recall_weighs_classes_alike():
    assert class_recall(np.array([0, 0, 0, 5]), np.array([0, 0, 0, 0])) == 0.5
