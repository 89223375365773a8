"""A run directory as one object."""

import json

import pytest

from configs.base import base
from vgg_jax.config import as_json
from vgg_jax.errors import UserError
from vgg_jax.runs.reader import SalvagedRun, StoredRun, find_runs, is_run


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "some" / "run"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(as_json(base())))
    lines = [{"step": 1, "a": 3.0}, {"step": 2, "a": 5.0, "b": 1.0}, {"step": 3, "a": 4.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 4, "a"')
    (folder / "summary.json").write_text(json.dumps({"command": "python", "steps": 3}))
    return StoredRun(folder)


def test_reads_what_is_there(run):
    assert run.name == "run"
    assert run.config["model.variant"] == "D"
    assert run.summary["steps"] == 3
    assert run.command == "python"
    assert run.curve("a") == [(1, 3.0), (2, 5.0), (3, 4.0)]
    assert (run.last("a"), run.best("a"), run.last("b")) == (4.0, 5.0, 1.0)
    assert (run.last("c"), run.best("c")) == (None, None)


def test_what_is_not_there_is_empty(tmp_path):
    run = StoredRun(tmp_path)
    assert (run.config, run.summary, run.lines, run.command) == ({}, {}, [], None)


def test_finds_runs_below_a_folder(run, tmp_path):
    assert [found.path for found in find_runs(tmp_path)] == [run.path]
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / ".lock").touch()  # as before the first number
    assert [found.name for found in find_runs(tmp_path)] == ["run", "started"]
    assert [is_run(path) for path in (run.path, tmp_path / "started", tmp_path)] == [
        True,
        True,
        False,
    ]


def test_a_label_replaces_the_name_of_the_folder(run):
    assert StoredRun(run.path, "some/run").name == "some/run"


def test_of_a_damaged_run_is_salvaged_what_can_be_read(run):
    assert SalvagedRun(run.path).damage == []
    assert SalvagedRun(run.path).lines == run.lines
    assert SalvagedRun(run.path).summary == run.summary
    (run.path / "metrics.jsonl").write_text('{"step": 1, "a": 2}\n{"a": 3}\n{"step": Infinity}\n')
    (run.path / "summary.json").write_text("{")
    (run.path / "config.json").write_text("[]")
    salvaged = SalvagedRun(run.path)
    assert salvaged.lines == [{"step": 1, "a": 2}]
    assert (salvaged.summary, salvaged.config) == ({}, {})
    lines, summary, config = salvaged.damage
    assert "line 2 of" in lines
    assert lines.endswith(" (lines damaged: 2)")
    assert "summary.json is damaged" in summary
    assert "config.json is damaged" in config


@pytest.mark.parametrize(
    "value",
    [{"metrics": []}, {"metrics": {"eval/top1": "high"}}, {"wall_seconds": "1"}, {"command": 1}],
)
def test_values_of_another_kind_are_named(run, value):
    (run.path / "summary.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=rf"summary\.json is damaged: {next(iter(value))} "):
        _ = run.summary
