"""Averages over views: every example counts each of its views once, whatever the batches."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.evaluation.nets import SIZES, Pictures
from vgg_jax.errors import UserError
from vgg_jax.evaluation.protocols import PROTOCOLS, ViewSpec
from vgg_jax.evaluation.views import view_averages

SPECS = [ViewSpec(scale, crop=8, stride=4) for scale in (8, 12)]


class Seen:
    """A function of views that keeps the shapes it was given: (n, h, w, 3), mirrored."""

    def __init__(self, function) -> None:
        self.function = function
        self.given = []

    def __call__(self, images, *, mirrored):
        assert images.dtype == np.uint8
        self.given.append((images.shape, mirrored))
        return jnp.asarray(self.function(images.astype(np.float32)))


def mean_color(images):
    return images.mean((1, 2)) / 255


def averages(functions, source=None, *, protocol="both", specs=SPECS, batch_size=4, **options):
    return view_averages(
        functions,
        3,
        source or Pictures(),
        parts=PROTOCOLS[protocol],
        specs=specs,
        batch_size=batch_size,
        **options,
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_are_the_means_over_parts_scales_and_functions(protocol, batch_size):
    found, labels = averages(
        [Seen(mean_color), Seen(lambda x: 1 - mean_color(x))],
        protocol=protocol,
        batch_size=batch_size,
    )
    np.testing.assert_allclose(found, 0.5, atol=1e-5)  # whatever x is, x and 1 - x
    source = Pictures()
    np.testing.assert_array_equal(labels, source.labels)
    found, _ = averages([Seen(mean_color)], protocol=protocol, batch_size=batch_size)
    for index in range(len(source)):
        image, _ = source.load(index)
        views = [
            [np.mean(mean_color(np.stack(part.views(image, spec))), 0) for spec in SPECS]
            for part in PROTOCOLS[protocol]
        ]
        np.testing.assert_allclose(found[index], np.mean(views, (0, 1)), atol=1e-5)


def test_batches_have_one_shape_and_one_kind_and_at_most_as_many_pixels():
    seen = Seen(mean_color)
    averages([seen], batch_size=4)
    kinds = {(shape[1:], mirrored) for shape, mirrored in seen.given}
    assert {mirrored for _, mirrored in kinds} == {True}  # as both parts of the protocol ask
    for shape, _ in seen.given:
        count, height, width, _ = shape
        assert count == 1 or count * height * width <= 4 * SPECS[0].crop ** 2
    for kind in kinds:
        sizes = {shape[0] for shape, mirrored in seen.given if (shape[1:], mirrored) == kind}
        assert len(sizes) <= math.log2(4) + 2
        full = max(sizes)
        assert all(size == full or math.log2(size).is_integer() for size in sizes)


def test_padding_of_a_last_batch_counts_for_nobody():
    """Nine examples of one crop, in batches of four, or in one that is filled up to sixteen."""
    results = []
    for batch_size, sizes in ((4, [4, 4, 1]), (16, [16])):
        seen = Seen(lambda images: mean_color(images) + 7)  # 7 for padding
        results.append(averages([seen], protocol="center", specs=SPECS[:1], batch_size=batch_size))
        assert seen.given == [((size, 8, 8, 3), False) for size in sizes]
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-5)
    assert results[0][0].max() < 8


def test_progress_sees_every_example_once():
    seen = []

    def progress(indices):
        for index in indices:
            seen.append(index)
            yield index

    averages([Seen(mean_color)], protocol="center", progress=progress)
    assert seen == list(range(len(SIZES)))


def test_an_example_shown_twice_is_noticed():
    with pytest.raises(AssertionError, match="shown 1 times"):
        averages(
            [Seen(mean_color)],
            protocol="center",
            specs=SPECS[:1],
            progress=lambda _: [0, 0, *range(1, 8)],
        )


def test_an_example_that_cannot_be_decoded_is_an_error():
    class Broken(Pictures):
        def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
            if index == 5:
                raise UserError("5.jpg cannot be read")
            return super().load(index, min_side)

    with pytest.raises(UserError, match=r"5\.jpg"):
        averages([Seen(mean_color)], Broken(), protocol="center")
