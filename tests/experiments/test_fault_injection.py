"""Faults done to real processes: a few of each kind that takes seconds, and what is counted."""

import csv
import time
from types import SimpleNamespace

import pytest

from experiments.fault_injection import faults as faults_module
from experiments.fault_injection import run, victim
from experiments.fault_injection.faults import FAULTS


@pytest.fixture(
    params=[
        ["SIGKILL", "SIGHUP"],
        # Done to a run at rest: the campaign itself has to stop one.
        ["newest checkpoint damaged", "metrics.jsonl damaged"],
    ],
    ids=["strikes", "damages"],
)
def kinds(request, monkeypatch, pytestconfig):
    """Two kinds of fault that a short campaign does once each."""
    monkeypatch.chdir(pytestconfig.rootpath)
    monkeypatch.setattr(victim, "STEPS", 36)
    monkeypatch.setattr(run, "STEPS", 36)
    net = ["--config.steps=36" if "steps=240" in option else option for option in victim.NET]
    monkeypatch.setattr(victim, "NET", net)
    # Its run is over sooner, and a fault that came later would be done again, to another run.
    sooner = SimpleNamespace(sleep=lambda seconds: time.sleep(seconds / 10))
    monkeypatch.setattr(faults_module, "time", sooner)
    faults = [fault for fault in FAULTS if fault.name in request.param]
    counted = [run.dataclasses.replace(fault, tries=(1, 0)) for fault in faults]
    monkeypatch.setattr(run, "FAULTS", counted)
    return request.param


def test_faults_are_survived_counted_and_resumed(kinds, tmp_path):
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0
    with (tmp_path / "faults.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["fault"] for row in rows) == sorted(kinds)
    for row in rows:
        assert (row["promised"], row["resumed"], row["identical"]) == ("True",) * 3, row
    table = (tmp_path / "table.md").read_text()
    assert table.splitlines()[-1] == "| all | 2 | {} | 2 | 2 | 2 | 0 |".format(
        table.splitlines()[-1].split("|")[3].strip()
    )
    # The same command does what is left, which is nothing.
    assert run.main(["--preset=quick", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "table.md").read_text() == table


@pytest.mark.parametrize(
    ("status", "errors", "kept"),
    [
        (0, "", True),
        (0, "a warning\n", True),
        (1, "", False),
        (0, "Traceback (most recent call last):\n", False),
        (0, "a line\n" * 9, False),
    ],
)
def test_what_counts_as_promised(status, errors, kept):
    (fault,) = [fault for fault in FAULTS if fault.name == "SIGTERM"]
    ends = [(status, "", errors)]
    assert (run.kept_promise(fault, ends) and run.said_little(ends, warnings=0)) == kept


@pytest.mark.parametrize(
    ("status", "lines", "little"), [(4, 9, True), (4, 10, False), (5, 9, False)]
)
def test_a_lost_process_says_more(status, lines, little):
    assert run.said_little([(status, "", "a line\n" * lines)], warnings=0) == little


def test_what_is_lost_is_counted():
    row = {"fault": "SIGKILL", "moment": "in a save", "promised": "True"}
    rows = [
        row | {"resumed": "True", "identical": "True"},
        row | {"resumed": "True", "identical": "False"},
        row | {"resumed": "False", "identical": "False"},
    ]
    assert run.table(rows).splitlines()[2] == "| SIGKILL | 3 | 3 / 0 | 3 | 2 | 1 | 2 |"
