"""Who may write in a run directory, and what its stored config may differ in."""

import errno
import fcntl
import json
import os

import pytest

from configs.base import base
from vgg_jax.config import with_classes
from vgg_jax.errors import UserError
from vgg_jax.runs.directory import (
    StorageError,
    Workdir,
    check_same_config,
    finished_summary,
    open_workdir,
    read_config,
    read_metrics,
    readable_metrics,
    resumed_config,
)


def test_a_config_stored_before_a_key_was_made_is_that_of_its_default(tmp_path):
    open_workdir(tmp_path, base()).close()
    path = tmp_path / "config.json"
    stored = json.loads(path.read_text())
    del stored["init"], stored["data"]["channel_order"], stored["optimizer"]["frozen"]
    path.write_text(json.dumps(stored))
    check_same_config(tmp_path, base())
    assert read_config(tmp_path).data.channel_order == "RGB"
    other = base()
    other.optimizer.frozen = ("conv1_1/.*",)
    with pytest.raises(UserError, match="frozen"):
        check_same_config(tmp_path, other)


def test_a_number_of_classes_that_is_left_to_the_data_is_the_stored_run_s(tmp_path):
    assert resumed_config(tmp_path, base()).model.num_classes is None
    open_workdir(tmp_path, with_classes(base(), 1000)).close()
    assert resumed_config(tmp_path, base()).model.num_classes == 1000
    assert resumed_config(tmp_path, with_classes(base(), 2)).model.num_classes == 2
    check_same_config(tmp_path, base())
    with pytest.raises(UserError, match="num_classes: 1000 there, 2 now"):
        check_same_config(tmp_path, with_classes(base(), 2))


def test_a_folder_is_held_by_one_and_let_go(tmp_path):
    first = Workdir(tmp_path)
    with pytest.raises(UserError, match=f"in use by process {os.getpid()} on "):
        Workdir(tmp_path)
    first.close()
    Workdir(tmp_path).close()


def test_storage_without_locks_is_told(tmp_path, monkeypatch):
    def unsupported(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    workdir = Workdir(tmp_path)
    assert "one process there at a time" in workdir.note
    workdir.close()


def test_a_folder_that_is_gone_or_another_one_is_noticed(tmp_path):
    folder = tmp_path / "run"
    workdir = Workdir(folder)
    workdir.check()
    folder.rename(tmp_path / "away")
    with pytest.raises(StorageError, match="is gone"):
        workdir.check()
    other = Workdir(folder)
    with pytest.raises(StorageError, match="replaced"):
        workdir.check()
    for held in (workdir, other):
        held.close()


def test_a_run_is_finished_when_it_made_all_its_steps(tmp_path):
    assert finished_summary(tmp_path, base(), 5) is None
    open_workdir(tmp_path, base()).close()
    for summary, finished in (
        ({"exit_reason": "finished", "steps": 5}, True),
        ({"exit_reason": "finished", "steps": 4}, False),
        ({"exit_reason": "SIGTERM", "steps": 5}, False),
        ({}, False),
    ):
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        assert (finished_summary(tmp_path, base(), 5) == summary) == finished
    (tmp_path / "summary.json").write_text(json.dumps({"exit_reason": "finished", "steps": 5}))
    other = base()
    other.seed = 1
    with pytest.raises(UserError, match="seed: 0 there, 1 now"):
        finished_summary(tmp_path, other, 5)


def test_many_differences_of_two_configs_are_cut_short(tmp_path):
    open_workdir(tmp_path, base()).close()
    (tmp_path / "config.json").write_text('{"seed": 0}')
    with pytest.raises(UserError, match=r"and \d+ more\)") as error:
        check_same_config(tmp_path, base())
    assert len(str(error.value)) < 800


def test_complete_lines_of_metrics_are_read(tmp_path):
    assert read_metrics(tmp_path) == []
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 2.0}\n{"step": 2, "a": NaN}\n{"step": 3')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    path.write_text('{"step": 1}\n{"a": 1}\n{"step": true}\n{"step": 4}\n')
    lines, damaged = readable_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 4]
    assert [text.split(" of ")[0] for text in damaged] == ["line 2", "line 3"]
    with pytest.raises(UserError, match="line 2 of"):
        read_metrics(tmp_path)
