"""Charts: ticks at round numbers, points where they belong, what cannot be drawn left out."""

import math
import re

import pytest

from vgg_jax.reporting.svg import line_chart, svg_heat_map

INK = {"x_label": "step", "y_label": "loss"}


def ticks(chart: str) -> list[str]:
    return re.findall(r'class="tick"[^>]*text-anchor="end">([^<]*)<', chart)


@pytest.mark.parametrize(
    ("low", "high", "log_y", "expected"),
    [
        (0.0, 1.0, False, ["0", "0.5", "1"]),
        (0.0, 47_000.0, False, ["0", "20k", "40k"]),
        (1.5, 3.1, True, ["1.5", "2", "2.5", "3"]),
        (0.1, 9.0, True, ["0.1", "0.2", "0.5", "1", "2", "5"]),
        (3.01e-5, 3.09e-5, False, ["3.02e-5", "3.04e-5", "3.06e-5", "3.08e-5"]),
        (2.30011, 2.30019, False, ["2.30012", "2.30014", "2.30016", "2.30018"]),
        (1e-5, 1e1, True, ["1e-5", "1e-4", "0.001", "0.01", "0.1", "1", "10"]),
    ],
)
def test_ticks_are_round_numbers(low, high, log_y, expected):
    assert ticks(line_chart([("a", [(0, low), (1, high)])], log_y=log_y, **INK)) == expected


def test_higher_values_are_drawn_higher_and_later_ones_to_the_right():
    chart = line_chart([("a", [(0, 1.0), (5, 2.0), (10, 4.0)])], **INK)
    (path,) = re.findall(r'points="([^"]*)"', chart)
    points = [tuple(map(float, point.split(","))) for point in path.split()]
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_what_has_no_place_is_left_out():
    points = [(0, 1.0), (1, math.nan), (2, 0.0), (3, math.inf), (4, 10.0)]
    chart = line_chart([("a", points)], log_y=True, **INK)
    (path,) = re.findall(r'points="([^"]*)"', chart)
    assert len(path.split()) == 2
    assert line_chart([("a", [(0, math.nan)])], **INK) == ""


def test_constant_and_single_values_are_drawn():
    assert "<polyline" in line_chart([("a", [(0, 3.0), (1, 3.0)])], **INK)
    assert "<circle" in line_chart([("a", [(7, 3.0)])], **INK)
    assert "<circle" in line_chart([("a", [(7, 3.0), (7, 3.0)])], **INK)  # a line of no length


def test_names_are_escaped():
    assert "<title>a&lt;b&amp;c</title>" in line_chart([("a<b&c", [(0, 1.0), (1, 2.0)])], **INK)


def test_map_colours_run_from_lowest_to_highest_and_gaps_stay_empty():
    chart = svg_heat_map(
        ["top", "low"], ["0", "1"], [[0.0, None], [0.5, 1.0]], x_label="x", y_label="y", unit="u"
    )
    cells = re.findall(r'fill="(#\w+)"><title>(\w+), x (\d): ([\d.]+) u', chart)
    assert [cell[1:] for cell in cells] == [
        ("top", "0", "0"),
        ("low", "0", "0.5"),
        ("low", "1", "1"),
    ]
    assert [color for color, *_ in cells] == ["#440154", "#26828e", "#fde725"]
