"""What of an image each protocol shows."""

import numpy as np
import pytest
from PIL import Image

from vgg_jax.data.preprocessing import resize_shortest
from vgg_jax.evaluation.protocols import (
    PROTOCOLS,
    ViewSpec,
    center_view,
    dense_shape,
    dense_view,
    grid_views,
)

SPEC = ViewSpec(scale=40, crop=32, stride=16)


def picture(height: int, width: int) -> Image.Image:
    """Every pixel of the resized image tells its place."""
    rows, columns = np.indices((height, width))
    pixels = np.stack([rows, columns, np.zeros_like(rows)], -1)
    return Image.fromarray(pixels.astype(np.uint8))


def corner(view: np.ndarray) -> tuple[int, int]:
    return int(view[0, 0, 0]), int(view[0, 0, 1])


def test_center_is_one_crop():
    (view,) = center_view(picture(40, 60), SPEC)
    assert view.shape == (32, 32, 3)
    assert corner(view) == (4, 14)


@pytest.mark.parametrize(
    ("height", "width", "kept", "at"),
    [
        (40, 40, (40, 40), (0, 0)),  # square: whole, whatever the stride
        (40, 48, (40, 48), (0, 0)),
        (40, 75, (40, 64), (0, 5)),
        (79, 40, (64, 40), (7, 0)),
        (40, 44, (40, 40), (0, 2)),  # never below the shortest side
    ],
)
def test_dense_keeps_what_the_score_map_reaches(height, width, kept, at):
    (view,) = dense_view(picture(height, width), SPEC)
    assert view.shape[:2] == kept == dense_shape((width, height), SPEC)
    assert corner(view) == at


def test_dense_resizes_isotropically():
    image = picture(80, 160)
    (view,) = dense_view(image, SPEC)
    np.testing.assert_array_equal(view, resize_shortest(np.asarray(image), 40))


def test_multicrop_is_a_regular_grid_from_edge_to_edge():
    views = grid_views(picture(40, 60), SPEC)
    assert {view.shape for view in views} == {(32, 32, 3)}
    assert [corner(view) for view in views] == [
        (top, left) for top in (0, 2, 4, 6, 8) for left in (0, 7, 14, 21, 28)
    ]


def test_counts_are_those_of_the_paper():
    for parts in PROTOCOLS.values():
        for part in parts:
            assert len(part.views(picture(40, 60), SPEC)) == part.count
    (multicrop,) = PROTOCOLS["multicrop"]
    assert multicrop.count * (1 + multicrop.mirrored) == 50
    assert PROTOCOLS["both"] == PROTOCOLS["dense"] + PROTOCOLS["multicrop"]
