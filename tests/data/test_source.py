"""What every source of images promises, whatever it reads from."""

import numpy as np
import pytest
from PIL import Image

from vgg_jax.data.arrays import ArraySource, Subset, open_digits
from vgg_jax.data.folder import open_folder
from vgg_jax.data.source import Source


class Grey(Source):
    """The least that a source has to define: three images of one grey each."""

    class_names = ("dark", "light")
    labels = None

    def __len__(self) -> int:
        return 3

    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        return Image.new("RGB", (4, 2), (100 * index,) * 3), index // 2


@pytest.fixture(params=["own", "digits", "folder", "array", "subset"])
def source(request, photo_folder) -> Source:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), np.uint8)
    arrays = ArraySource(images, np.array([0, 1, 1, 0, 1], np.int32), ("a", "b"))
    return {
        "own": Grey,
        "digits": lambda: open_digits("test"),
        "folder": lambda: open_folder(str(photo_folder), "val", ("train", "val")),
        "array": lambda: arrays,
        "subset": lambda: Subset(arrays, np.array([4, 0, 2])),
    }[request.param]()


def test_an_example_is_an_image_and_the_label_of_its_class(source):
    for index in (0, len(source) - 1):
        example = source[index]
        assert example.keys() == {"image", "label"}
        image, label = source.load(index)
        assert image.mode == "RGB"
        assert example["image"].dtype == np.uint8
        assert example["image"].shape == (image.height, image.width, 3)
        np.testing.assert_array_equal(example["image"], np.asarray(image))
        assert type(example["label"]) is int
        assert example["label"] == label
        assert isinstance(source.class_names[label], str)


def test_an_example_is_the_reader_s_own(source):
    first = source[0]["image"]
    before = first.copy()
    first[:] = 255 - first
    np.testing.assert_array_equal(source[0]["image"], before)


def test_labels_known_beforehand_are_those_of_the_examples(source):
    if source.labels is None:
        assert isinstance(source, Grey)
        return
    assert source.labels.shape == (len(source),)
    assert source.labels.dtype == np.int32
    for index in range(0, len(source), 50):
        assert source.labels[index] == source[index]["label"]


def test_a_source_without_its_methods_cannot_be_made():
    with pytest.raises(TypeError, match="abstract"):
        Source()
