"""Sweeps through the command line: stopped, continued on Ray, failing; and what users get wrong."""

import csv
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.sweeping.files import write_sweep
from vgg_jax.errors import UserError
from vgg_jax.runs.reader import StoredRun
from vgg_jax.sweep import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _in_project_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def sweep_file(tmp_path):
    return write_sweep(tmp_path)


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


def test_dry_run_prints_commands_that_the_shell_and_xargs_read_back(sweep_file, tmp_path, capsys):
    assert main([f"--config={sweep_file}", f"--workdir={tmp_path / 'a b'}", "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
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


def test_a_config_that_a_run_would_refuse_shows_before_anything_runs(tmp_path):
    path = tmp_path / "sweep.py"
    overrides = "{'optimizer.name': 'none'}"
    path.write_text(f"def get_runs():\n    yield 'a', 'configs/vgg11.py:digits', {overrides}\n")
    with pytest.raises(UserError, match=r"run 'a' .*config.optimizer.name='none'"):
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


@pytest.mark.parametrize("name", ["summary.json", "config.json"])
def test_a_damaged_file_of_a_run_is_named_in_a_line(sweep_file, tmp_path, capsys, name):
    folder = tmp_path / "out" / "good-seed3"
    folder.mkdir(parents=True)
    (folder / name).write_text("{")
    with pytest.raises(UserError) as error:
        main([f"--config={sweep_file}", f"--workdir={tmp_path}/out"])
    assert len(str(error.value).splitlines()) == 1
    assert f"{folder / name} is damaged" in str(error.value)
    assert capsys.readouterr().err == ""
