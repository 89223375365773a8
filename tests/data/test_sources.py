"""Sources by the name in a config, and the name that stands beside their numbers."""

import numpy as np
import pytest

from vgg_jax.data.arrays import ArraySource
from vgg_jax.data.folder import FolderSource
from vgg_jax.data.sources import check_labels, data_name, open_source
from vgg_jax.errors import UserError


@pytest.mark.parametrize(
    ("source", "name", "place", "expected"),
    [
        ("digits", "imagenet2012", None, "digits"),
        ("tfds", "imagenette/320px-v2", "somewhere", "imagenette/320px-v2"),
        ("folder", "imagenet2012", "my pets.v2", "my pets.v2"),
        ("npz", "digits", "own.npz", "own"),
        ("caltech101", "imagenet2012", "archive.zip", "caltech101"),
        ("npz", "cifar10", "my pets.v2", "cifar10"),  # the folder that holds cifar10.npz
        ("folder", "nothing is given", None, "nothing is given"),
    ],
)
def test_numbers_name_the_data_they_are_of(data_config, tmp_path, source, name, place, expected):
    (tmp_path / "my pets.v2").mkdir()
    (tmp_path / "own.npz").touch()
    folder = None if place is None else str(tmp_path / place)
    assert data_name(data_config(source=source, name=name, dir=folder)) == expected


def test_kinds(data_config, photo_folder):
    assert type(open_source(data_config(), "train")) is ArraySource
    config = data_config(source="folder", dir=str(photo_folder), eval_split="val")
    assert type(open_source(config, "val")) is FolderSource
    with pytest.raises(UserError, match=r"unknown data.source 'digit'. Did you mean 'digits'"):
        open_source(data_config(source="digit"), "train")


@pytest.mark.parametrize(("labels", "fine"), [([0, 2], True), ([0, 3], False), ([-1, 0], False)])
def test_labels_outside_the_classes(labels, fine):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    source = ArraySource(images, np.array(labels, np.int32), ("a", "b", "c"))
    if fine:
        check_labels(source, 3)
        return
    with pytest.raises(UserError, match=f"labels run from {labels[0]} to {labels[1]}"):
        check_labels(source, 3)
