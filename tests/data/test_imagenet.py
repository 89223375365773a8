"""The constants are those that the weights in circulation were trained with."""

import numpy as np
import pytest

from vgg_jax.data import imagenet
from vgg_jax.data.folder import open_folder
from vgg_jax.data.preprocessing import resized_crop
from vgg_jax.weights.layouts import CAFFE_BGR
from vgg_jax.weights.torchvision import NORMALIZATION


def test_are_torchvisions_on_another_scale():
    """To half a grey level: torchvision measured the mean anew."""
    assert pytest.approx([255 * x for x in NORMALIZATION["mean"]], abs=0.5) == imagenet.MEAN
    assert pytest.approx([255 * x for x in NORMALIZATION["std"]], abs=0.01) == imagenet.STD


def test_the_authors_networks_take_the_mean_in_their_own_order():
    assert CAFFE_BGR == {"channel_order": "BGR", "mean": (103.939, 116.779, 123.68)}


def test_photos_have_about_this_mean_and_deviation(shared_data):
    """Of every fourth of 500 photos of the 1000 classes. The deviation is that within an image."""
    photos = open_folder(str(shared_data / "photos"), "", ())
    crops = [resized_crop(photos.load(i)[0], 256, 224) for i in range(0, len(photos), 4)]
    pixels = np.stack(crops).astype(np.float32)
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), imagenet.MEAN, rtol=0.05)
    np.testing.assert_allclose(pixels.std((1, 2)).mean(0), imagenet.STD, rtol=0.05)
