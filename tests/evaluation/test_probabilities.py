"""Batches by shape give what one view after the other gives."""

import numpy as np
import pytest

from tests.evaluation.nets import (
    NAMES,
    Pictures,
    probabilities_one_by_one,
    replaced,
    tiny_weights,
)
from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.errors import UserError
from vgg_jax.evaluation.probabilities import dataset_probabilities
from vgg_jax.evaluation.protocols import PROTOCOLS, ViewSpec


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures()


@pytest.fixture(scope="module")
def nets():
    return [tiny_weights(seed) for seed in (0, 1)]


def straight(nets, source, protocol, scales) -> np.ndarray:
    """The mean over networks, scales, parts and views."""
    rows = []
    for index in range(len(source)):
        image, _ = source.load(index)
        each = []
        for net in nets:
            for scale in scales:
                for part in PROTOCOLS[protocol]:
                    views = part.views(image, ViewSpec(scale, crop=8, stride=4))
                    given = [probabilities_one_by_one(net, v, flip=part.mirrored) for v in views]
                    each.append(np.mean(given, 0))
        rows.append(np.mean(each, 0))
    return np.array(rows)


@pytest.mark.parametrize(
    ("protocol", "scales", "batch_size", "count"),
    [
        ("center", (10,), 4, 1),
        ("center", (8, 11), 3, 2),
        ("dense", (10,), 1, 1),
        ("dense", (8, 12), 8, 1),
        ("multicrop", (12,), 16, 1),
        ("both", (10,), 32, 1),
    ],
)
def test_equals_one_by_one(protocol, scales, batch_size, count, nets, pictures):
    found, labels = dataset_probabilities(
        nets[:count], pictures, protocol=protocol, scales=scales, batch_size=batch_size
    )
    np.testing.assert_array_equal(labels, pictures.labels)
    wanted = straight(nets[:count], pictures, protocol, scales)
    np.testing.assert_allclose(found, wanted, atol=2e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)


def test_networks_that_do_not_belong_together(nets, pictures):
    others = (
        replaced(nets[0], class_names=NAMES[::-1]),
        replaced(nets[0], preprocessing=Preprocessing(20, 12, (0.0, 0.0, 0.0))),
    )
    for other in others:
        with pytest.raises(UserError, match="ensemble must share"):
            dataset_probabilities([nets[0], other], pictures, scales=(10,))


def test_mistakes(nets, pictures):
    with pytest.raises(UserError, match="unknown protocol 'centre'"):
        dataset_probabilities(nets, pictures, protocol="centre", scales=(10,))
    with pytest.raises(UserError, match="give 8 or more"):
        dataset_probabilities(nets, pictures, scales=(7, 10))
