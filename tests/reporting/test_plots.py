"""The same figure gives the same file."""

from vgg_jax.reporting.plots import COLORS, figure


def test_same_figure_same_file(tmp_path):
    for name in ("one", "two"):
        with figure(tmp_path / name) as drawing:
            axes = drawing.subplots()
            lines = [axes.plot([0, 1], [0, i])[0] for i in range(3)]
            axes.set_xlabel("step")
    assert [line.get_color() for line in lines] == list(COLORS[:3])
    one, two = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(one) > 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]
