"""The runs of a small sweep, and what they would have stored."""

import json
from pathlib import Path

import pytest

from tests.sweeping.files import write_sweep
from vgg_jax.sweeping.trials import Trial, load_trials


@pytest.fixture(autouse=True)
def _in_project_root(pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)


@pytest.fixture
def sweep_file(tmp_path) -> Path:
    return write_sweep(tmp_path)


@pytest.fixture
def trials(sweep_file, tmp_path) -> list[Trial]:
    """good-seed3, good-seed4 and bad."""
    return load_trials(sweep_file, tmp_path)


@pytest.fixture
def store():
    """Returns a function that writes what a run leaves: its metrics, and how it ended."""

    def store(trial: Trial, *lines: dict, exit_reason: str = "finished", **summary) -> Path:
        trial.workdir.mkdir(exist_ok=True)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (trial.workdir / "metrics.jsonl").write_text(text)
        content = {"exit_reason": exit_reason, "wall_seconds": 1.0} | summary
        (trial.workdir / "summary.json").write_text(json.dumps(content))
        return trial.workdir

    return store
