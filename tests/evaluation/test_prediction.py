"""Classes of a few images from Python: in order of probability, the same whatever the batch."""

import numpy as np
import pytest
from PIL import Image

import vgg_jax
from tests.evaluation.nets import NAMES, probabilities_one_by_one, tiny_weights
from vgg_jax.errors import UserError
from vgg_jax.evaluation.prediction import BATCH, predict, predict_pixels
from vgg_jax.weights.store import save_weights

PIXELS = np.random.default_rng(0).integers(0, 256, (BATCH + 1, 8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def weights():
    return tiny_weights()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    paths = [folder / f"{index}.png" for index in range(len(PIXELS))]
    for path, pixels in zip(paths, PIXELS, strict=True):
        Image.fromarray(pixels).resize((11, 12)).save(path)
    return paths


def test_classes_are_those_of_the_definition_most_probable_first(weights):
    for pixels, found in zip(PIXELS[:3], predict_pixels(weights, PIXELS[:3]), strict=True):
        wanted = probabilities_one_by_one(weights, pixels, flip=False)
        assert [each.label for each in found] == np.argsort(-wanted).tolist()
        assert [each.name for each in found] == [NAMES[each.label] for each in found]
        assert [each.probability for each in found] == pytest.approx(sorted(wanted)[::-1], abs=1e-5)


def test_equal_probabilities_are_named_in_the_order_of_the_classes(weights):
    zero = {
        name: {leaf: 0 * x for leaf, x in layer.items()}
        for name, layer in weights.variables["params"].items()
    }
    flat = type(weights)(**vars(weights) | {"variables": {"params": zero}})
    ((*found,),) = predict_pixels(flat, PIXELS[:1])
    assert [each.name for each in found] == list(NAMES)
    assert [each.probability for each in found] == pytest.approx([1 / 3] * 3)


def test_more_images_than_a_batch_holds_come_in_their_order(weights, images):
    found = predict(weights, images, top=1)
    assert len(found) == BATCH + 1
    for index in (0, BATCH - 1, BATCH):
        (alone,) = predict(weights, [images[index]], top=1)
        assert found[index][0].label == alone[0].label
        assert found[index][0].probability == pytest.approx(alone[0].probability, abs=1e-6)
    assert predict(weights, []) == []


def test_weights_and_images_by_path_or_by_content(weights, images, tmp_path):
    save_weights(tmp_path / "net.safetensors", weights)
    mixed = [images[0], images[1].read_bytes()]
    by_file = vgg_jax.predict(tmp_path / "net.safetensors", mixed, top=2)
    loaded = vgg_jax.load_weights(tmp_path / "net.safetensors")
    assert by_file == vgg_jax.predict(loaded, [str(images[0]), images[1]], top=2)
    assert [len(each) for each in by_file] == [2, 2]


def test_arrays_are_seen_as_the_files_they_would_be(weights, images):
    arrays = np.stack([np.array(Image.open(path)) for path in images])
    assert predict(weights, arrays) == predict(weights, images) == predict(weights, list(arrays))
    grey = arrays[..., 0]
    assert predict(weights, grey[:2]) == predict(weights, np.stack([grey[:2]] * 3, axis=-1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("photo.jpg", "'photo.jpg' is one image: give a list of images"),
        (b"\xff\xd8", "the contents of a file is one image"),
        (PIXELS[0], r"uint8 \(8, 8, 3\) is no batch of images"),
        (PIXELS / 255, r"float64 \(17, 8, 8, 3\) is no batch .* give uint8"),
        ([PIXELS[0] / 255], r"float64 \(8, 8, 3\) is no image: give uint8"),
        ([PIXELS], r"\(17, 8, 8, 3\) is no image"),
    ],
)
def test_what_is_no_batch_of_images(weights, wrong, message):
    with pytest.raises(UserError, match=message):
        predict(weights, wrong)


def test_mistakes(weights, images, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not much of an image")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        predict(weights, [images[0], tmp_path / "broken.jpg"])
    with pytest.raises(UserError, match="top=0"):
        predict(weights, images[:1], top=0)
    with pytest.raises(UserError, match="no weights file nowhere"):
        predict("nowhere", images[:1])
