import numpy as np
import pytest

from vgg_jax.data.arrays import ArraySource
from vgg_jax.data.sources import check_labels, open_source
from vgg_jax.errors import UserError


class TestDigits:
    def test_is_split_by_class_without_overlap(self, data_config):
        train, test = (open_source(data_config(), split) for split in ("train", "test"))
        assert (len(train), len(test)) == (1438, 359)
        for digit in range(10):
            total = np.sum(train.labels == digit) + np.sum(test.labels == digit)
            assert np.sum(test.labels == digit) == pytest.approx(0.2 * total, abs=1)

    def test_is_scikit_learns_in_rgb_of_0_to_255(self, data_config):
        from sklearn.datasets import load_digits

        train, test = (open_source(data_config(), split) for split in ("train", "test"))
        images = np.concatenate([train.images, test.images])
        assert images.dtype == np.uint8
        assert images.shape == (1797, 8, 8, 3)
        assert (images.min(), images.max()) == (0, 255)
        expected = np.round(load_digits().images * 255 / 16).astype(np.uint8)
        for channel in range(3):
            seen = images[..., channel].reshape(1797, -1)
            assert sorted(map(bytes, seen)) == sorted(map(bytes, expected.reshape(1797, -1)))

    def test_example_is_image_and_label(self, data_config):
        source = open_source(data_config(), "test")
        example = source[7]
        np.testing.assert_array_equal(example["image"], source.images[7])
        assert example["label"] == source.labels[7]
        assert isinstance(example["label"], int)
        assert source.class_names[3] == "3"

    def test_missing_split_names_the_ones_there_are(self, data_config):
        with pytest.raises(UserError, match=r"no split 'val'.*train, test"):
            open_source(data_config(), "val")


class TestNpz:
    @pytest.fixture
    def arrays(self):
        rng = np.random.default_rng(0)
        return {
            "x_train": rng.integers(0, 256, (5, 4, 6, 3), np.uint8),
            "y_train": np.array([[0], [2], [1], [2], [0]], np.int64),
            "x_test": rng.integers(0, 256, (3, 4, 6), np.uint8),
            "y_test": np.array([1, 0, 2], np.uint8),
        }

    def open(self, data_config, path, split):
        return open_source(data_config(source="npz", name="toy", dir=str(path)), split)

    def test_opens_file_or_folder(self, data_config, tmp_path, arrays):
        np.savez(tmp_path / "toy.npz", **arrays)
        for path in (tmp_path, tmp_path / "toy.npz"):
            source = self.open(data_config, path, "train")
            np.testing.assert_array_equal(source.images, arrays["x_train"])
            np.testing.assert_array_equal(source.labels, [0, 2, 1, 2, 0])
            assert source.labels.dtype == np.int32
            assert source.class_names == ("0", "1", "2")

    def test_grey_becomes_rgb(self, data_config, tmp_path, arrays):
        np.savez(tmp_path / "toy.npz", **arrays)
        source = self.open(data_config, tmp_path, "test")
        assert source.images.shape == (3, 4, 6, 3)
        np.testing.assert_array_equal(source.images[..., 1], arrays["x_test"])

    def test_one_split_and_class_names(self, data_config, tmp_path, arrays):
        names = np.array(["ant", "bee", "cow"])
        np.savez(
            tmp_path / "toy.npz",
            images=arrays["x_train"],
            labels=arrays["y_train"],
            class_names=names,
        )
        source = self.open(data_config, tmp_path, "")
        assert len(source) == 5
        assert source.class_names == ("ant", "bee", "cow")
        with pytest.raises(UserError, match=r"--config\.data\.train_split= --config"):
            self.open(data_config, tmp_path, "train")

    @pytest.mark.parametrize(
        ("change", "split", "message"),
        [
            ({}, "val", r"no split 'val'; it has: test, train"),
            ({"x_train": np.zeros((5, 4, 6, 3))}, "train", r"x_train is float64 \(5, 4, 6, 3\)"),
            ({"x_train": np.zeros((5, 3, 4, 6), np.uint8)}, "train", "must be uint8"),
            ({"y_train": np.zeros(4, np.int32)}, "train", r"y_train int32 \(4,\)"),
            ({"y_train": np.zeros(5)}, "train", "integers"),
            ({"x_train": np.zeros((0, 4, 6), np.uint8), "y_train": []}, "train", "must be"),
        ],
    )
    def test_says_what_does_not_fit(self, data_config, tmp_path, arrays, change, split, message):
        np.savez(tmp_path / "toy.npz", **(arrays | change))
        with pytest.raises(UserError, match=message):
            self.open(data_config, tmp_path, split)

    def test_missing_file_and_missing_dir(self, data_config, tmp_path):
        with pytest.raises(UserError, match=r"toy\.npz: give the \.npz file"):
            self.open(data_config, tmp_path, "train")
        with pytest.raises(UserError, match="needs --config"):
            open_source(data_config(source="npz"), "train")

    def test_other_file(self, data_config, tmp_path):
        (tmp_path / "toy.npz").write_text("no archive")
        with pytest.raises(UserError, match=r"toy\.npz is no \.npz file"):
            self.open(data_config, tmp_path, "train")


def test_unknown_source_names_the_nearest(data_config):
    with pytest.raises(UserError, match=r"(?s)'digit'.*Did you mean 'digits'.*folder, npz, tfds"):
        open_source(data_config(source="digit"), "train")


@pytest.mark.parametrize(
    ("labels", "fits"), [([0, 9], True), ([0, 10], False), ([-1, 3], False), ([9, 9], True)]
)
def test_check_labels(labels, fits):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    source = ArraySource(images, np.array(labels, np.int32), tuple("0123456789"))
    if fits:
        check_labels(source, 10)
    else:
        with pytest.raises(UserError, match=f"from {labels[0]} to {labels[1]}.*has 10 classes"):
            check_labels(source, 10)
