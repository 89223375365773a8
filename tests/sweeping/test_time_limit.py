"""What still starts before a time limit, and what ends with it."""

import functools
import json

import pytest

from vgg_jax.errors import UserError
from vgg_jax.sweep import main
from vgg_jax.sweeping import time_limit
from vgg_jax.sweeping.time_limit import SAVING_SECONDS, TimeLimit, parse_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("90", 90), ("8m", 480), ("1.5h", 5400)]
)
def test_seconds_of_a_text(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "8 minutes", "m", "-5m", "nan", "20s", "0"])
def test_a_limit_that_makes_no_sense_is_refused(text):
    with pytest.raises(UserError, match="must be more than 20 seconds, such as"):
        parse_seconds(text)


@pytest.fixture
def now():
    """The clock: a list of one number, in seconds."""
    return [0.0]


@pytest.fixture
def limit(trials, now):
    return TimeLimit(SAVING_SECONDS + 100, trials, clock=lambda: now[0])


def test_the_first_runs_start_while_there_is_time(limit, trials, now):
    for now[0], admitted in ((0.0, True), (99.0, True), (100.0, False), (500.0, False)):
        assert limit.admits(trials[0]) == admitted
        assert limit.is_over() == (not admitted)


def test_a_run_that_does_not_fit_is_left(limit, trials, store, now):
    store(trials[0], wall_seconds=40.0)
    for now[0], admitted in ((0.0, True), (60.0, True), (61.0, False)):
        assert limit.admits(trials[1]) == admitted
    # Half of it was made before: the rest fits.
    store(trials[1], exit_reason="SIGTERM", wall_seconds=20.0)
    for now[0], admitted in ((61.0, True), (80.0, True), (81.0, False)):
        assert limit.admits(trials[1]) == admitted


def test_runs_that_differ_in_the_seed_alone_are_asked_first(limit, trials, store, now):
    first, second, other = trials
    store(other, wall_seconds=90.0)
    now[0] = 30.0
    assert not limit.admits(second)  # as long as the longest
    store(first, wall_seconds=50.0)
    assert limit.admits(second)


def test_a_run_that_fits_into_no_limit_starts_and_is_stopped(limit, trials, store, now):
    store(trials[0], wall_seconds=101.0)
    now[0] = 50.0
    assert limit.admits(trials[1])


def test_a_sweep_ends_in_time_and_says_what_is_left(sweep_file, tmp_path, monkeypatch, capsys):
    told = tmp_path / "out" / "good-seed3" / "metrics.jsonl"

    def clock():
        """By which the time is up as soon as the first run trains."""
        return 100.0 if told.exists() and told.stat().st_size else 0.0

    limit = functools.partial(TimeLimit, clock=clock)
    monkeypatch.setattr(time_limit, "TimeLimit", limit)
    text = sweep_file.read_text()
    sweep_file.write_text(text.replace('"steps": 800', '"steps": 10**6'))
    arguments = [f"--config={sweep_file}", f"--workdir={tmp_path}/out"]
    assert main([*arguments, "--time_limit=90s"]) == 0
    assert "the time is up: 3 of 3 runs are left, good-seed3, good-seed4, bad" in (
        capsys.readouterr().out
    )
    assert not (tmp_path / "out" / "bad").exists()
    summary = json.loads((tmp_path / "out" / "good-seed3" / "summary.json").read_text())
    assert summary["exit_reason"] == "SIGTERM"


def test_a_limit_is_for_runs_on_this_machine(sweep_file):
    with pytest.raises(UserError, match="is for --launcher=local"):
        main([f"--config={sweep_file}", "--time_limit=8m", "--launcher=ray"])


@pytest.mark.parametrize("text", ["8x", "10s", ""])
def test_a_limit_that_is_none_is_refused_before_anything_is_told(sweep_file, capsys, text):
    with pytest.raises(UserError, match=f"--time_limit={text} must be more than 20 seconds"):
        main([f"--config={sweep_file}", f"--time_limit={text}"])
    assert capsys.readouterr().out == ""
