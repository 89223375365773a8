"""A whole run in this process: what it says, keeps and returns, and where it resumes."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from tests.short_runs import metrics
from vgg_jax.errors import UserError
from vgg_jax.training.loop import train

STEPS = 6
# A rate so low that no prediction changes: every evaluation but the first is no better.
OPTIONS = [
    "--config.optimizer.learning_rate=1e-30",
    "--config.optimizer.warmup_epochs=0.0",
    "--config.optimizer.schedule=plateau",
    "--config.optimizer.plateau_patience=2",
    "--config.eval.every_steps=1",
    "--config.checkpoint.every_steps=4",
    "--config.log.every_steps=1",
]
RATES = [1e-30] * 3 + [1e-31] * 2 + [1e-32] * 2 + [1e-33]


def run(config, folder: Path) -> tuple[dict, list[str]]:
    """Trains; returns the summary, and what was said."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        summary = train(config, folder, 0.0)
    return summary, said.getvalue().splitlines()


@pytest.fixture
def config(small_run):
    def make(steps: int, *overrides: str):
        return small_run(*OPTIONS, f"--config.steps={steps}", *overrides)

    return make


@pytest.fixture(scope="module")
def cache():
    return {}


@pytest.fixture
def finished(config, cache, tmp_path_factory):
    """The folder of a run, its summary, and what it said."""
    if not cache:
        folder = tmp_path_factory.mktemp("runs") / "run"
        cache["run"] = folder, *run(config(STEPS), folder)
    return cache["run"]


def test_a_run_from_its_first_step_to_its_summary(finished):
    folder, summary, said = finished
    parameters = (27 * 4 + 4) + 8 + (36 * 8 + 8) + 16 + (32 * 10 + 10)  # with both normalisations
    assert summary == json.loads((folder / "summary.json").read_text())
    assert (summary["exit_reason"], summary["steps"]) == ("finished", STEPS)
    assert summary["parameters"] == parameters
    assert summary["protocol"]["dataset"] == "digits"
    assert summary["unreadable_examples"] == 0
    assert summary["seconds_to_first_step"] <= summary["wall_seconds"]
    assert said[0].startswith(
        f"A ({parameters} parameters) on digits: 1,438 training and 359 test images, "
        f"{STEPS} steps of 8, 4 "
    )
    assert said[1] == f"run directory {folder}"
    lines = metrics(folder)
    assert [line["step"] for line in lines] == [step for step in range(1, 7) for _ in range(2)]
    assert summary["metrics"] == {
        name: value for line in lines for name, value in line.items() if name != "step"
    }
    assert {line["eval/examples"] for line in lines if "eval/top1" in line} == {359}
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir() if path.name.isdecimal())
    assert kept == ["4", "6"]


def rates(lines: list[dict]) -> list[float]:
    return [line["train/learning_rate"] for line in lines if "train/loss" in line]


def test_the_rate_drops_where_evaluations_are_no_better(finished):
    folder, _, _ = finished
    assert rates(metrics(folder)) == pytest.approx(RATES[:STEPS], rel=1e-5)


def test_a_finished_run_is_left_alone(finished, config):
    folder, _, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    summary, said = run(config(STEPS), folder)
    assert said == []
    assert summary["steps"] == STEPS
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_run_of_another_config_is_refused(finished, config):
    folder, _, _ = finished
    with pytest.raises(UserError, match=r"holds a run with another config .*seed: 0 there, 1 now"):
        run(config(STEPS, "--config.seed=1"), folder)


def test_more_steps_resume_with_the_plateau_rule_where_it_was(finished, config, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    summary, said = run(config(STEPS + 2), tmp_path / "run")
    assert f"resuming after step {STEPS}" in said
    assert f"step {STEPS + 1}: learning rate times 0.001 from now on" in said
    assert summary["steps"] == STEPS + 2
    assert rates(metrics(tmp_path / "run")) == pytest.approx(RATES, rel=1e-5)
