"""Sweeps through the command line: stopped, continued on Ray, failing; and what users get wrong."""

import csv
import fcntl
import io
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from pyarrow import parquet
from rich.console import Console

from vgg_jax.errors import UserError
from vgg_jax.runs.reader import StoredRun
from vgg_jax.sweep import main
from vgg_jax.sweeping import launchers
from vgg_jax.sweeping.display import Display
from vgg_jax.sweeping.execution import Outcome, execute, is_claimed
from vgg_jax.sweeping.table import format_rows, sweep_table
from vgg_jax.sweeping.trials import load_trials

ROOT = Path(__file__).parent.parent
# What a run is told of memory stands in its log.
CONFIG = """
import os

from configs.vgg11 import get_config as vgg11


def get_config(argument):
    print("memory", os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION"))
    return vgg11(argument)
"""
SWEEP = """
from pathlib import Path

CONFIG = f"{Path(__file__).parent / 'config.py'}:digits"
TINY = {
    "model.stages": ("3-4", "3-8"),
    "data.image_size": 8,
    "model.head": "linear",
    "data.batch_size": 16,
    "steps": 800,
    "eval.every_steps": 400,
    "checkpoint.every_steps": 1000,
    "log.every_steps": 1,
    "optimizer.warmup_epochs": 0.0,
}


def get_runs():
    for seed in (3, 4):
        yield f"good-seed{seed}", CONFIG, TINY | {"seed": seed}
    yield "bad", CONFIG, TINY | {"init.weights": "gone", "seed": 5}
"""


@pytest.fixture(autouse=True)
def _in_project_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def sweep_file(tmp_path):
    path = tmp_path / "sweep.py"
    path.write_text(SWEEP)
    (tmp_path / "config.py").write_text(CONFIG)
    return path


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "vgg_jax.sweep", *arguments],
        # To Ray this machine has a GPU, so that its parts are dealt out.
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1", "RAY_OVERRIDE_RESOURCES": '{"GPU": 1}'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_lines(path: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 900
    while not (path.exists() and path.read_text().count("\n") > 1):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_stopped_then_continued_on_ray_with_a_run_that_fails(sweep_file, tmp_path, capsys):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    folder = tmp_path / "out"
    arguments = [f"--config={sweep_file}", f"--workdir={folder}"]

    process = start(*arguments)
    wait_for_lines(folder / "good-seed3" / "metrics.jsonl", process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 130, err
    assert "run the same command again to resume" in out
    stopped = StoredRun(folder / "good-seed3").summary
    assert stopped["exit_reason"] == "SIGTERM"
    assert not (folder / "bad" / "log.txt").exists()

    process = start(*arguments, "--launcher=ray", "--retries=1", "--gpus_per_run=0.5")
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    assert "bad: failed, tried 2 times, exit status 2: error: no weights file gone" in err
    log = (folder / "good-seed3" / "log.txt").read_text()
    assert f"resuming after step {stopped['steps']}" in log
    assert re.findall("memory .*", log) == ["memory None", "memory 0.450"]

    good, bad = csv.DictReader((folder / "table.csv").read_text().splitlines())
    assert (good["runs"], good["missing"], good["seeds"]) == ("2", "0", "3 4")
    assert (bad["runs"], bad["missing"], bad["eval/top1_mean"]) == ("0", "1", "")
    runs = [StoredRun(folder / f"good-seed{seed}") for seed in (3, 4)]
    last = [run.summary["metrics"]["eval/top1"] for run in runs]
    assert float(good["eval/top1_mean"]) == pytest.approx(statistics.fmean(last))
    assert float(good["eval/top1_std"]) == pytest.approx(statistics.stdev(last))
    best = [max(line.get("eval/top1", 0) for line in run.lines) for run in runs]
    assert float(good["best/eval/top1_mean"]) == pytest.approx(statistics.fmean(best))
    rows = parquet.read_table(folder / "table.parquet").to_pylist()
    assert rows[0]["eval/top1_mean"] == pytest.approx(statistics.fmean(last))
    assert rows[1]["eval/top1_mean"] is None

    # What is left is the failed run alone.
    assert main([*arguments, "--dry_run"]) == 0
    (command,) = (c for c in capsys.readouterr().out.splitlines() if "vgg_jax" in c)
    assert shlex.split(command)[:3] == ["python", "-m", "vgg_jax.train"]
    assert f"--workdir={folder / 'bad'}" in shlex.split(command)
    assert "--config.init.weights=gone" in shlex.split(command)


def test_a_ray_cluster_that_cannot_be_reached_is_said_in_short(sweep_file, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # and there is none: Ray refuses at once
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    address = ("--launcher=ray", "--ray_address=127.0.0.1:1")
    process = start(f"--config={sweep_file}", f"--workdir={tmp_path / 'out'}", *address)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 2, err
    assert "error: no Ray cluster at 127.0.0.1:1" in err
    assert "ray start --head" in err
    assert "Traceback" not in err


def test_dry_run_prints_commands_that_the_shell_and_xargs_read_back(sweep_file, tmp_path):
    process = start(f"--config={sweep_file}", f"--workdir={tmp_path / 'a b'}", "--dry_run")
    lines = process.communicate(timeout=900)[0].splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith("python")]
    # As --help has it, with a `python` that says what it is given.
    (tmp_path / "python").write_text('#!/bin/sh\nprintf "%s\\n" python "$@"\n')
    (tmp_path / "python").chmod(0o755)
    given = subprocess.run(
        ["xargs", "-d", r"\n", "-I{}", "sh", "-c", "{}"],
        input="".join(f"{shlex.join(command)}\n" for command in commands),
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert given.stdout.splitlines() == [word for command in commands for word in command]
    assert [command[-1] for command in commands] == [
        f"--workdir={tmp_path / 'a b' / name}" for name in ("good-seed3", "good-seed4", "bad")
    ]
    assert "--config.model.stages=('3-4', '3-8')" in commands[0]
    assert not (tmp_path / "a b").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("yield 'a'", "must yield"),
        ("yield 'a/b', 'configs/vgg11.py:digits', {}", "letters, digits"),
        ("yield from [('a', 'configs/vgg11.py:digits', {})] * 2", "two runs called 'a'"),
        ("yield 'a', 'configs/vgg11.py:digits', {'sead': 1}", "Did you mean 'seed'"),
        ("yield 'a', 'configs/vgg11.py:digits', {'seed': 'x'}", "is of type int"),
        (
            "yield 'a', 'configs/vgg11.py:digits', {'optimizer.name': 'none'}",
            "run 'a' .*config.optimizer.name='none'",
        ),
        ("return []", "yields no run"),
    ],
)
def test_mistakes_in_a_sweep_file_show_before_anything_runs(tmp_path, body, message):
    path = tmp_path / "sweep.py"
    path.write_text(f"def get_runs():\n    {body}\n")
    with pytest.raises(UserError, match=message):
        main([f"--config={path}", f"--workdir={tmp_path / 'out'}"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=nowhere.py"], "no sweep file nowhere.py"),
        (["--config=configs/vgg11.py"], "defines no get_runs"),
        (["--config=x.py", "--retries=-1"], "--retries=-1 must be at least 0"),
    ],
)
def test_mistyped_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_a_folder_of_other_runs_is_refused(sweep_file, tmp_path):
    (trial, *_) = load_trials(sweep_file, tmp_path)
    trial.workdir.mkdir()
    (trial.workdir / "config.json").write_text('{"seed": 9, "optimizer": {"schedule": "step"}}')
    with pytest.raises(UserError, match="holds a run with another config"):
        load_trials(sweep_file, tmp_path)


def test_a_run_at_which_another_process_works_is_waited_for(sweep_file, tmp_path):
    (trial, *_) = load_trials(sweep_file, tmp_path)
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


@pytest.mark.parametrize(
    ("at_once", "each", "visible", "expected", "memory"),
    [
        (None, 1, None, ["0", "1", "2", "3"], None),
        (None, 2, "4,5,6,7", ["4,5", "6,7"], None),
        (1, 3, None, ["0,1,2"], None),
        (6, 1, None, ["0", "1", "2", "3", "0", "1"], "0.450"),
        (3, 4, None, ["0,1,2,3"] * 3, "0.300"),
    ],
)
def test_gpus_are_dealt_out_and_shared(monkeypatch, at_once, each, visible, expected, memory):
    fraction = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    monkeypatch.setattr(launchers, "_devices_at_hand", lambda: ("gpu", 4))
    monkeypatch.delenv(fraction, raising=False)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    slots = launchers.device_slots(at_once, each)
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == expected
    assert {slot.get(fraction) for slot in slots} == {memory}
    monkeypatch.setenv(fraction, "0.1")  # set by the user, and passed on as it is
    assert all(fraction not in slot for slot in launchers.device_slots(at_once, each))
    with pytest.raises(UserError, match="a run of 5 GPUs does not fit on 4"):
        launchers.device_slots(None, 5)


def test_live_table_shows_what_runs_have_written(sweep_file, tmp_path):
    good, _, bad = trials = load_trials(sweep_file, tmp_path)
    for trial in (good, bad):
        trial.workdir.mkdir()
    line = '{"step": 7, "train/loss": 0.5}\n{"step": 8, "eval/top1": 0.25}\n{"st'
    (good.workdir / "metrics.jsonl").write_text(line)
    (bad.workdir / "log.txt").write_text("starting\nerror: no such thing\n")
    outcome = Outcome("failed", 2, 2)
    texts = {}
    for terminal in (True, False):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=100, height=30)
        with Display(trials, console) as display, (good.workdir / ".claim").open("w") as claim:
            fcntl.flock(claim, fcntl.LOCK_EX)
            display.ended(bad, outcome)
            display.refresh()
        texts[terminal] = console.file.getvalue()
    assert re.search(r"good-seed3.*running.*8.*loss 0.5000, top-1 25.00%", texts[True])
    assert re.search(r"good-seed4.*waiting", texts[True])
    assert re.search(r"bad.*failed", texts[True])
    assert texts[False] == (
        "bad: failed, tried 2 times, exit status 2: error: no such thing (1 of 3 ended)\n"
    )


def test_table_without_a_finished_run_is_empty_not_zero(sweep_file, tmp_path):
    rows = sweep_table(load_trials(sweep_file, tmp_path))
    assert [row["missing"] for row in rows] == [2, 1]
    assert all(row["eval/top1_mean"] is None for row in rows)
    header, first, _ = format_rows(rows)
    assert first[header.index("top-1 [%]")] == "-"


@pytest.mark.parametrize("name", ["summary.json", "config.json"])
def test_a_damaged_file_of_a_run_is_named_in_a_line(sweep_file, tmp_path, name):
    folder = tmp_path / "out" / "good-seed3"
    folder.mkdir(parents=True)
    (folder / name).write_text("{")
    process = start(f"--config={sweep_file}", f"--workdir={tmp_path}/out")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert len(err.splitlines()) == 1
    assert f"{folder / name} is damaged" in err
