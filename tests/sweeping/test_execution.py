"""One run as a process: skipped if it is finished, tried again if it fails, stopped if asked."""

import fcntl
import threading

import pytest

from vgg_jax.sweeping.execution import Outcome, execute, is_claimed


def test_a_run_at_which_another_process_works_is_waited_for(trials):
    trial = trials[0]
    trial.workdir.mkdir()
    stop, outcomes = threading.Event(), []
    with (trial.workdir / ".claim").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(
            target=lambda: outcomes.append(execute(trial, 1, {}, stop)), daemon=True
        )
        thread.start()
        thread.join(0.6)
        assert thread.is_alive()
        assert is_claimed(trial)
        stop.set()
        thread.join(10)
    assert outcomes == [Outcome("stopped", 0)]
    assert not is_claimed(trial)


def test_a_finished_run_is_not_started(trials, store):
    folder = store(trials[0])
    assert execute(trials[0], 5, {}, threading.Event()) == Outcome("finished", 0)
    assert not (folder / "log.txt").exists()
    assert not is_claimed(trials[0])


def test_nothing_is_started_once_asked_to_stop(trials):
    stop = threading.Event()
    stop.set()
    assert execute(trials[0], 5, {}, stop) == Outcome("stopped", 0)
    assert not (trials[0].workdir / "log.txt").exists()


@pytest.mark.parametrize("retries", [0, 1])
def test_a_run_that_fails_is_tried_again_and_its_log_tells(trials, retries):
    """Its config does not exist any more: it ends before it has imported JAX."""
    trial = trials[-1]
    (trial.workdir.parent / "config.py").unlink()
    outcome = execute(trial, retries, {"PYTHONWARNINGS": "ignore"}, threading.Event())
    assert outcome == Outcome("failed", retries + 1, 2)
    lines = (trial.workdir / "log.txt").read_text().splitlines()
    assert [line for line in lines if line[0] == "$"] == [f"$ {trial.command()}"] * (retries + 1)
    assert lines[1].startswith("error: ")
    assert "config.py" in lines[1]


def test_a_claim_ends_with_its_process(trials):
    trial = trials[0]
    assert not is_claimed(trial)  # its folder is not there
    trial.workdir.mkdir()
    with (trial.workdir / ".claim").open("w") as claim:
        assert not is_claimed(trial)
        fcntl.flock(claim, fcntl.LOCK_EX)
        assert is_claimed(trial)
    assert not is_claimed(trial)
