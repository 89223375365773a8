"""Figures are written twice, and the same figure gives the same files."""

from vgg_jax.reporting.plots import COLORS, figure


def test_same_figure_same_files(tmp_path):
    for name in ("one", "two"):
        with figure(tmp_path / name) as drawing:
            axes = drawing.subplots()
            lines = [axes.plot([0, 1], [0, i])[0] for i in range(3)]
            axes.set_xlabel("step")
    assert [line.get_color() for line in lines] == list(COLORS[:3])
    for suffix in (".png", ".svg"):
        one, two = ((tmp_path / n).with_suffix(suffix).read_bytes() for n in ("one", "two"))
        assert one == two
        assert len(one) > 1000
