"""Tables come back as they were written, also where a run was cut off."""

import numpy as np
import pytest

from vgg_jax.errors import UserError
from vgg_jax.runs.tables import (
    TableWriter,
    markdown,
    mean_interval,
    pivot,
    read_table,
    select,
    tidy_rows,
    write_table,
)

COLUMNS = ("seed", "step", "layer", "depth", "quantity", "value")


def rows(step: int) -> list[dict]:
    measured = {"rms": {"conv1_1": 0.5 + step, "fc8": 1e-30}, "loss": {"all": np.float32(2)}}
    return tidy_rows(measured, ["conv1_1", "fc8"], seed=3, step=step)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_round_trip(tmp_path, name):
    path = tmp_path / name
    write_table(path, rows(0) + rows(1), COLUMNS)
    first = path.read_bytes()
    write_table(path, rows(0) + rows(1), COLUMNS)
    assert path.read_bytes() == first  # no time in it
    table = read_table(path, path)
    assert len(table["value"]) == 12
    assert table["depth"].tolist()[:3] == [1, 2, 0]
    chosen = select(table, layer=["conv1_1", "all"], step=1)
    assert set(chosen["value"].tolist()) == {1.5, 2.0}
    assert select(table, quantity="rms", layer="fc8")["value"][0] == 1e-30


def test_a_run_that_goes_on_repeats_no_row(tmp_path):
    path = tmp_path / "layers.csv"
    writer = TableWriter(path, 0, COLUMNS)
    for step in (0, 5, 10):
        writer.write(rows(step))
    writer.close()
    whole = path.read_text()
    path.write_text(whole[:-12])  # killed in the middle of a write
    writer = TableWriter(path, 10, COLUMNS)
    writer.write(rows(10))
    writer.close()
    assert path.read_text() == whole


def test_damaged_rows_of_a_table_that_is_continued_are_dropped(tmp_path):
    path = tmp_path / "layers.csv"
    writer = TableWriter(path, 0, COLUMNS)
    writer.write(rows(0))
    writer.write([{**rows(0)[0], "value": float("nan")}])  # a measurement too
    writer.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b"\xff\xfe,\n3,one,fc8,2,rms,1\n3,1,fc8,2,rms,high\n3,1\n")
    TableWriter(path, 1, COLUMNS).close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"a,value\n1,x\n", b"a,b\n1\n", b"\xff\xfe"])
def test_a_damaged_table_is_named(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"table\.csv is damaged: "):
        read_table(path)
    path.with_suffix(".csv.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"table\.csv\.gz is damaged: "):
        read_table(path.with_suffix(".csv.gz"))


def test_pivot_leaves_holes():
    table = {
        "step": np.array([0, 0, 1]),
        "layer": np.array(["a", "b", "a"]),
        "value": np.array([1.0, 2.0, 3.0]),
    }
    steps, layers, values = pivot(table, "step", "layer")
    assert steps.tolist() == [0, 1]
    assert layers.tolist() == ["a", "b"]
    np.testing.assert_array_equal(values, [[1, 2], [3, np.nan]])


def test_mean_interval_covers_the_mean_19_times_in_20():
    drawn = np.random.default_rng(0).standard_normal((2000, 5))
    covered = [abs(mean) <= half for mean, half in map(mean_interval, drawn)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_markdown():
    assert markdown(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"
    assert markdown(["a", "b"], [], "lr") == "| a | b |\n| --- | ---: |\n"
