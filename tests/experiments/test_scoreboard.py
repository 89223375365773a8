"""The score board: how a row is judged, and that every row is derived from what is stored."""

import csv
import gzip

import pytest

from experiments.scoreboard import ours, run
from experiments.scoreboard.ours import ROOT
from experiments.scoreboard.rows import AGREES, DIFFERS, KINDS, NOT_RUN, Measured, Row


def row(ours, theirs=10.0, tolerance="2%"):
    return Row("q", "theory", "s", theirs, tolerance, "before", ours)


@pytest.mark.parametrize(
    ("ours", "tolerance", "verdict"),
    [
        (Measured(11, 9.9, 12.1, 3, ""), "2%", AGREES),  # theirs is in the interval
        (Measured(10.15, 10.1, 10.2, 3, ""), "2%", AGREES),
        (Measured(10.3, 10.25, 10.35, 3, ""), "2%", DIFFERS),
        (Measured(10.3, 10.25, 10.35, 3, ""), "0.4", AGREES),
        (Measured.single(9.5, ""), "0.4", DIFFERS),
        (Measured.single(float("nan"), ""), "100%", DIFFERS),
        (None, "2%", NOT_RUN),
    ],
)
def test_verdicts(ours, tolerance, verdict):
    assert row(ours, tolerance=tolerance).verdict == verdict


def test_the_board_is_made_of_stored_results(tmp_path, capsys):
    assert run.main([f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().out.startswith("| kind | agrees")
    with gzip.open(tmp_path / "scoreboard.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    science = [line for line in rows if line["kind"] != "identity"]
    assert len(science) >= 80
    for line in rows:
        assert line["kind"] in KINDS
        assert line["source"]
        assert line["chosen"] in ("before", "after")
        assert (line["verdict"] == NOT_RUN) == (line["ours"] == "")
        assert bool(line["reason"]) == (line["verdict"] == DIFFERS), line
        if line["ours"]:
            assert (ROOT / line["file"]).is_file()
    identities = [line for line in rows if line["kind"] == "identity"]
    assert {line["verdict"] for line in identities} == {AGREES}
    with gzip.open(ROOT / "experiments/scoreboard/results/scoreboard.csv.gz", "rt") as file:
        assert list(csv.DictReader(file)) == rows  # what the page shows is current


def test_caltech_101_counts_when_all_three_splits_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(ours, "ROOT", tmp_path)
    path = tmp_path / ours.CALTECH
    assert ours.caltech101("256+384+512", "stacked") is None
    path.parent.mkdir(parents=True)
    head = "endpoint,scales,combined,images_per_class,split,class_recall"
    lines = [f"relu7,256+384+512,stacked,30,{split},{0.9 + split / 100}" for split in range(3)]
    for count in (2, 3):
        path.write_text("\n".join([head, *lines[:count], "relu7,256,alone,30,0,0.5", ""]))
        ours._lines.cache_clear()
        found = ours.caltech101("256+384+512", "stacked")
        assert (found is None) == (count == 2)
    assert found.value == pytest.approx(91)
    assert found.seeds == 3
    ours._lines.cache_clear()
