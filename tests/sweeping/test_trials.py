"""What a sweep file says, and what is wrong with it."""

import shlex
from pathlib import Path

import pytest

from vgg_jax.config import flatten, load_config, split_overrides
from vgg_jax.errors import UserError
from vgg_jax.sweeping.trials import load_trials
from vgg_jax.training.config_check import check_config


def test_a_run_is_a_training_command_with_its_overrides(trials, tmp_path):
    assert [trial.name for trial in trials] == ["good-seed3", "good-seed4", "bad"]
    for trial in trials:
        python, *words = shlex.split(trial.command())
        assert [python, *words] == ["python", *trial.arguments()]
        overrides, (_, module, config, workdir) = split_overrides(words)
        assert module == "vgg_jax.train"
        assert config == f"--config={tmp_path}/config.py:digits"
        assert workdir == f"--workdir={tmp_path / trial.name}"
        # The shell gives back what the sweep file says, types included.
        read = flatten(load_config(trial.config, overrides))
        assert {key: read[key] for key in trial.overrides} == trial.overrides


@pytest.mark.parametrize(
    ("exit_reason", "expected"), [("finished", True), ("SIGTERM", False), (None, False)]
)
def test_only_a_run_that_made_all_its_steps_is_finished(trials, store, exit_reason, expected):
    trial = trials[0]
    assert not trial.finished()
    store(trial, exit_reason=exit_reason)
    assert trial.finished() == expected


def test_a_damaged_summary_is_named(trials, store):
    (store(trials[0]) / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"good-seed3/summary\.json is damaged"):
        trials[0].finished()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield 'a'", "must yield"),
        ("yield 3", "must yield"),
        ("yield 'a/b', 'configs/vgg11.py:digits', {}", "letters, digits"),
        ("yield from [('a', 'configs/vgg11.py:digits', {})] * 2", "two runs called 'a'"),
        ("yield 'a', 'configs/vgg12.py', {}", "run 'a' of .*configs/vgg11.py"),
        ("yield 'a', 'configs/vgg11.py:digits', {'sead': 1}", "Did you mean 'seed'"),
        ("yield 'a', 'configs/vgg11.py:digits', {'seed': 'x'}", "is of type int"),
        (
            "yield 'a', 'configs/vgg11.py:digits', {'optimizer.name': 'none'}",
            "run 'a' .*config.optimizer.name='none'",
        ),
        ("return []", "yields no run"),
    ],
)
def test_mistakes_in_a_sweep_file_are_named(tmp_path, body, message):
    path = tmp_path / "sweep.py"
    path.write_text(f"def get_runs():\n    {body}\n")
    with pytest.raises(UserError, match=f"(?s){message}"):
        load_trials(path, tmp_path / "out", check_config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.py", "no sweep file nowhere.py; the ones here are .*experiments/.*sweep"),
        ("configs/vgg11.py", "defines no get_runs"),
        ("README.md", "is not a Python file"),
    ],
)
def test_what_is_no_sweep_file_is_said(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        load_trials(Path(name), tmp_path)


def test_a_folder_of_other_runs_is_refused(sweep_file, tmp_path):
    (trial, *_) = load_trials(sweep_file, tmp_path)
    trial.workdir.mkdir()
    (trial.workdir / "config.json").write_text('{"seed": 9, "optimizer": {"schedule": "step"}}')
    with pytest.raises(UserError, match="holds a run with another config"):
        load_trials(sweep_file, tmp_path)


def test_a_run_s_own_folder_is_taken_again(sweep_file, trials, tmp_path):
    for trial in trials:
        trial.workdir.mkdir()
        config = load_config(trial.config, [a for a in trial.arguments() if "--config." in a])
        (trial.workdir / "config.json").write_text(config.to_json_best_effort())
    again = load_trials(sweep_file, tmp_path)
    assert again == trials
