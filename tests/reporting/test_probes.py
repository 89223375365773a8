"""Tables of probes as charts: a map where layers and steps differ, else a line."""

import re

import pytest

from vgg_jax.errors import UserError
from vgg_jax.reporting.probes import grid_charts, read_grids

HEADER = "net,seed,layer,depth,step,quantity,value\n"
LAYERS = ("conv1_1", "conv2_1", "conv10_1")  # in the order of depth, not of the alphabet


@pytest.fixture
def charts(tmp_path):
    """Draws rows, without what is the same for all: net D, seed 0."""

    def draw(*rows: str, header: str = HEADER) -> list[str]:
        path = tmp_path / "layers.csv"
        path.write_text(header + "".join(f"{row}\n" for row in rows))
        grids = read_grids(path)
        return [c for grid in grids for c in grid_charts([(grid.caption, 0, grid)])]

    return draw


def caption(chart: str) -> str:
    (text,) = re.findall("<figcaption>(.*?)</figcaption>", chart)
    return text


def test_layers_by_steps_make_a_map_of_logarithms(charts):
    rows = [
        f"D,0,{layer},{depth},{step},grad,{10.0 ** (-depth - step / 10)}"
        for depth, layer in enumerate(LAYERS)
        for step in (20, 0, 10)
    ]
    (chart,) = charts(*rows)
    assert caption(chart) == "grad"
    assert 'aria-label="log10 grad by layer and step"' in chart
    cells = re.findall(r"<title>(\w+), step (\d+): (\S+) log10 grad</title>", chart)
    assert [(layer, int(step), float(value)) for layer, step, value in cells] == [
        (layer, step, -depth - step / 10)
        for depth, layer in enumerate(LAYERS)
        for step in (0, 10, 20)
    ]


def test_one_step_makes_a_line_over_depth_and_one_layer_a_line_over_steps(charts):
    rows = [f"D,0,{layer},{depth},5,dead,0.{depth + 1}" for depth, layer in enumerate(LAYERS)]
    rows += [f"D,0,all,0,{step},loss,{2.5 - step / 10}" for step in (0, 10, 20)]
    dead, loss = charts(*rows)
    assert 'aria-label="dead over depth [layers]"' in dead
    assert 'aria-label="loss over step"' in loss
    for chart in (dead, loss):
        (points,) = re.findall(r'points="([^"]*)"', chart)
        assert len(points.split()) == 3


def test_what_runs_differ_by_stands_in_the_caption_and_what_they_share_does_not(charts):
    rows = [
        f"D,{seed},{layer},{depth},0,{quantity},1.5"
        for seed in (3, 4)
        for quantity in ("rms", "grad")
        for depth, layer in enumerate(LAYERS)
    ]
    captions = [caption(chart) for chart in charts(*rows)]
    assert captions == ["rms, 3", "grad, 3", "rms, 4", "grad, 4"]


def test_values_without_a_logarithm_leave_their_cells_empty(charts):
    rows = ["D,0,a,0,0,grad,1", "D,0,a,0,1,grad,0", "D,0,b,1,0,grad,-1", "D,0,b,1,1,grad,10"]
    (chart,) = charts(*rows, "D,0,b,1,2,grad,")
    assert re.findall(r"<title>(\w, step \d): (\S+)", chart) == [
        ("a, step 0", "0"),
        ("b, step 1", "1"),
    ]
    assert charts("D,0,a,0,0,grad,0", "D,0,b,1,0,grad,-1") == []  # nothing can be drawn


def test_many_steps_are_thinned_evenly(charts):
    rows = [f"D,0,{layer},0,{step},grad,1" for layer in "ab" for step in range(150)]
    (chart,) = charts(*rows)
    steps = sorted({int(step) for step in re.findall(r"step (\d+):", chart)})
    assert steps == list(range(0, 150, 3))


def test_a_table_that_is_no_probe_s_is_passed_over(charts):
    assert charts("1,2", header="config,top1\n") == []


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (HEADER, "D,0,conv1_1,1,x,grad,1"),
        (HEADER, "D,0,conv1_1,x,1,grad,1"),
        (HEADER, "D,0,conv1_1,1,1,grad,high"),
        ("layer,quantity\n", "conv1_1,grad"),
        ("layer,value\n", "conv1_1,high"),
        (HEADER, "D,0," + "9" * 200_000),
    ],
)
def test_a_damaged_table_is_named(charts, header, row):
    with pytest.raises(UserError, match=r"layers\.csv is damaged") as error:
        charts(row, header=header)
    assert len(str(error.value)) < 500
