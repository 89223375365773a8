"""A run's numbers: averaged over a line's steps, written once, and the same for TensorBoard."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.short_runs import metrics, shown_by_tensorboard
from vgg_jax.runs.directory import StorageError, Workdir
from vgg_jax.training.diagnosis import NonFiniteError, Watch
from vgg_jax.training.optimizers import Plateau
from vgg_jax.training.setup import build, first_state
from vgg_jax.training.trackers import TRACKERS
from vgg_jax.training.writers import Recorder

LOSSES = [4.0, 2.0, 3.0, 1.0, 0.5]  # of the steps 1, 2, ...
SCORES = {"loss": 0.25, "top1": 0.5, "top5": 0.75, "examples": 359}


@pytest.fixture
def config(small_run):
    return small_run("--config.steps=5", "--config.log.every_steps=2")


@pytest.fixture
def tracker(monkeypatch):
    """What a tracker was told, if a config names "mlflow"."""
    told: list = []

    class Tracker:
        where = "here"

        def __init__(self, workdir, config):
            self.steps: dict[str, int] = {}

        def write(self, lines):
            told.extend(lines)

        def finish(self, summary, files):
            told.append((summary, [path.name for path in files]))

        def close(self):
            told.append("closed")

    monkeypatch.setitem(TRACKERS, "mlflow", Tracker)
    return told


@pytest.fixture
def run(config):
    return build(config)


@pytest.fixture
def state(config, run):
    return jax.eval_shape(run.init_fn)  # nobody looks at its values while the loss is finite


@pytest.fixture
def recorder(config, run, tmp_path):
    """Returns a function that opens a recorder, after so many steps, in the run directory."""
    held = Workdir(tmp_path)

    def open_one(start: int = 0, *, main: bool = True, plateau: Plateau | None = None) -> Recorder:
        plateau = plateau or Plateau(0.1, 1, 3)
        watch = Watch(config, run, lambda: "no checkpoint")
        workdir = held if main else None
        return Recorder(config, run, plateau, watch, workdir, start, time.perf_counter())

    yield open_one
    held.close()


def measured(*steps: int):
    """The metrics of one dispatch."""
    losses = np.array([LOSSES[step - 1] for step in steps], np.float32)
    values = losses if len(steps) > 1 else losses[0]
    each = {"loss": values, "top1": values / 8, "gradient_norm": 2 * values}
    return jax.tree.map(jnp.asarray, each)


def test_a_line_is_the_mean_of_its_steps_and_the_last_one_is_written_too(
    recorder, state, tmp_path, config
):
    with recorder(plateau=Plateau(0.1, 1, 3, drops=1)) as writer:
        for step in range(1, 6):
            writer.dispatched(state, step, measured(step))
            assert len(metrics(tmp_path)) == (step - 1) // 2  # read while the next one runs
        writer.read(state)
        writer.read(state)  # nothing is left
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    assert [line["train/loss"] for line in lines] == [3.0, 2.0, 0.5]
    assert [line["train/top1"] for line in lines] == [3 / 8, 2 / 8, 0.5 / 8]
    assert [line["train/gradient_norm"] for line in lines] == [6.0, 4.0, 1.0]
    rates = [line["train/learning_rate"] for line in lines]  # a tenth, after a drop
    warmup = round(179.75 * config.optimizer.warmup_epochs)  # steps
    rate = config.optimizer.learning_rate / 10
    assert rates == pytest.approx([rate * step / warmup for step in (2, 4, 5)], rel=1e-4)
    assert all(line["train/images_per_second"] > 0 for line in lines)
    assert writer.last == {name: value for name, value in lines[-1].items() if name != "step"}


def test_several_steps_in_a_dispatch_have_the_lines_of_single_ones(recorder, state, tmp_path):
    with recorder() as writer:
        writer.dispatched(state, 3, measured(1, 2, 3))
        assert writer.images_per_second is None
        writer.dispatched(state, 5, measured(4, 5))
        assert writer.first_step_seconds > 0
        writer.read(state)
        assert writer.images_per_second > 0
    assert [(line["step"], line["train/loss"]) for line in metrics(tmp_path)] == [
        *((2, 3.0), (4, 2.0)),
        (5, 0.5),
    ]


def test_tensorboard_shows_the_same_numbers(recorder, state, tmp_path):
    with recorder() as writer:
        for step in (1, 2):
            writer.dispatched(state, step, measured(step))
        writer.read(state)
        writer.evaluated(2, SCORES)
    shown = {
        (step, name): value for step, name, value in shown_by_tensorboard(tmp_path / "tensorboard")
    }
    kept = {
        (line["step"], name): value
        for line in metrics(tmp_path)
        for name, value in line.items()
        if name != "step"
    }
    assert shown == pytest.approx(kept, rel=1e-6)
    assert {name for _, name in shown} >= {"train/loss", "eval/top1"}


def test_a_resumed_run_keeps_what_was_and_drops_what_it_makes_again(
    recorder, state, tmp_path, capsys
):
    with recorder() as writer:
        for step in (1, 2, 3, 4):
            writer.dispatched(state, step, measured(step))
        writer.read(state)
        writer.evaluated(2, SCORES)
        writer.evaluated(4, SCORES)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('no JSON\n{"step": 4, "tra')  # cut off
    capsys.readouterr()
    with recorder(start=2) as writer:
        assert writer.last["train/loss"] == 3.0
        assert writer.last["eval/top1"] == 0.5
        assert "dropped" in capsys.readouterr().out
        writer.evaluated(2, SCORES | {"top1": 0.9})  # owed: made again, and written before
        assert "step 2: digits test top-1 90.00%, top-5 75.00%" in capsys.readouterr().out
        for step in (3, 4):
            writer.dispatched(state, step, measured(step))
        writer.read(state)
    written = [(line["step"], sorted(line)[0]) for line in metrics(tmp_path)]
    assert written == [(2, "step"), (2, "eval/examples"), (4, "step")]
    shown = [(step, name) for step, name, _ in shown_by_tensorboard(tmp_path / "tensorboard")]
    assert len(set(shown)) == len(shown)
    assert {step for step, _ in shown} == {2, 4}
    assert not (tmp_path / "metrics.tmp").exists()


def test_trackers_get_what_is_written_and_the_end(recorder, state, config, tracker, tmp_path):
    config.log.trackers = ("mlflow",)
    with recorder() as writer:
        for step in (1, 2):
            writer.dispatched(state, step, measured(step))
        writer.read(state)
        writer.ended({"exit_reason": "finished"})
    (line,) = metrics(tmp_path)
    written = (line.pop("step"), line)
    files = ["metrics.jsonl", "report.html"]
    assert tracker == [written, ({"exit_reason": "finished"}, files), "closed"]
    tracker.clear()
    with recorder(start=2):
        assert tracker == [written]  # it says that it has nothing


def test_other_processes_write_and_show_nothing(recorder, state, config, tracker, tmp_path, capsys):
    config.log.trackers = ("mlflow",)
    with recorder(main=False) as writer:
        for step in (1, 2):
            writer.dispatched(state, step, measured(step))
        writer.read(state)
        writer.evaluated(2, SCORES)
        assert writer.last["train/loss"] == 3.0
        assert writer.last["eval/top1"] == 0.5
        writer.ended({"exit_reason": "finished"})
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert tracker == []
    assert capsys.readouterr().out == ""


def test_what_is_not_finite_ends_the_run_at_its_step(recorder, run, config, tmp_path):
    state = first_state(run, config)
    bad = measured(1) | {"loss": jnp.float32(jnp.nan)}
    with recorder() as writer:
        writer.dispatched(state, 1, measured(1))
        writer.dispatched(state, 2, bad)
        with pytest.raises(NonFiniteError, match=r"^step 2: loss nan"):
            writer.read(state)
    assert metrics(tmp_path) == []


def test_a_folder_that_goes_is_noticed_before_a_line_is_written(recorder, state, tmp_path):
    with recorder() as writer:
        tmp_path.rename(tmp_path.with_name("away"))
        with pytest.raises(StorageError, match="is gone"):
            writer.evaluated(1, SCORES)
    assert not tmp_path.exists()
    tmp_path.with_name("away").rename(tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
