"""Faults of storage and of people: one line says what happened, and nothing saved is lost."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.short_runs import (
    ROOT,
    TINY,
    arrays,
    checkpoints,
    metrics,
    start,
    train,
    wait_for_checkpoint,
    wait_for_step,
)
from vgg_jax.cli import run_command
from vgg_jax.train import main

LONG = [*TINY, "--config.steps=100000", "--config.log.every_steps=1", "--config.eval.every_steps=0"]
ONE_ERROR = 3  # lines at most
SHORT = [*TINY, "--config.steps=8"]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of 8 steps that nothing happened to; to be copied."""
    workdir = tmp_path_factory.mktemp("short") / "run"
    result = train(*SHORT, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command line in this process, to be refused; returns status and error output."""
    monkeypatch.chdir(ROOT)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["train", *arguments])
        with pytest.raises(SystemExit) as exit_info:
            run_command(main)
        return exit_info.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def running(tmp_path):
    """A run that would take minutes."""
    workdir = tmp_path / "run"
    process = start(*LONG, f"--workdir={workdir}")
    wait_for_step(workdir, 5, process)
    yield process, workdir
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_a_folder_that_goes_is_noticed(running, command, tmp_path):
    process, workdir = running
    status, err = command(*LONG, f"--workdir={workdir}")
    assert status == 2
    assert f"in use by process {process.pid} on " in err
    assert len(err.splitlines()) == 1
    assert process.poll() is None  # the first one has noticed nothing

    wait_for_checkpoint(workdir, 4, process)
    workdir.rename(tmp_path / "elsewhere")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= ONE_ERROR
    assert not workdir.exists() or not (workdir / "summary.json").exists()
    # Brought back, it goes on.
    shutil.rmtree(workdir, ignore_errors=True)
    (tmp_path / "elsewhere").rename(workdir)
    last, told = max(checkpoints(workdir)), metrics(workdir)[-1]["step"]
    resumed = start(*LONG, f"--workdir={workdir}")
    wait_for_step(workdir, told + 1, resumed)
    resumed.send_signal(signal.SIGTERM)
    out, err = resumed.communicate(timeout=60)
    assert resumed.returncode == 0, err
    assert f"resuming after step {last}" in out


def test_a_second_ctrl_c_stops_at_once_and_says_what_is_lost(running):
    process, workdir = running
    os.kill(process.pid, signal.SIGSTOP)  # so that both arrive before it has saved
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    if "stopped at once: " in err:
        assert "lost" in err
    else:  # all was saved before Python noticed the second one
        assert json.loads((workdir / "summary.json").read_text())["exit_reason"] == "SIGINT"


def test_a_disk_that_fills_up_ends_the_run_and_room_lets_it_resume(short, tmp_path):
    workdir = tmp_path / "full"
    shutil.copytree(short, workdir)
    (workdir / "summary.json").unlink()
    shutil.rmtree(workdir / "checkpoints" / "8")
    limited = start(*SHORT, f"--workdir={workdir}")
    # Bytes of every file; less than a checkpoint's largest has.
    resource.prlimit(limited.pid, resource.RLIMIT_FSIZE, (3000, 3000))
    _, err = limited.communicate(timeout=120)
    assert limited.returncode == 5, err
    assert "error: cannot write a checkpoint" in err
    assert "Traceback" not in err

    again = train(*SHORT, f"--workdir={workdir}")
    assert again.returncode == 0, again.stderr
    assert "resuming after step 4" in again.stdout
    undisturbed = arrays(short, 8)
    for name, values in arrays(workdir, 8).items():
        assert values.tobytes() == undisturbed[name].tobytes(), name
    steps = [line["step"] for line in metrics(workdir) if "train/loss" in line]
    assert steps == [4, 8]


@pytest.mark.parametrize(
    "content",
    ["{", "null", "[]", '{"seed": 0}', "[" * 100_000],
    ids=["cut", "null", "list", "without keys", "deep"],
)
def test_a_damaged_config_of_the_run_is_named_in_a_line(tmp_path, command, content):
    (tmp_path / "config.json").write_text(content)
    status, err = command(*TINY, f"--workdir={tmp_path}")
    assert status == 2
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2
    assert len(err) < 1000
    assert str(tmp_path) in err
    assert (tmp_path / "config.json").read_text() == content


def test_damaged_lines_of_metrics_are_dropped_and_told(short, tmp_path):
    workdir, before = tmp_path / "run", metrics(short)
    shutil.copytree(short, workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    (workdir / "metrics.jsonl").write_text("\n".join(["\0" * 40, "[1]", *lines]) + '\n{"st')
    (workdir / "summary.json").unlink()
    again = train(*SHORT, f"--workdir={workdir}")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("; dropped") == 2
    assert metrics(workdir) == before
    assert json.loads((workdir / "summary.json").read_text())["metrics"] == {
        name: value for line in before for name, value in line.items() if name != "step"
    }


def test_training_opens_no_connection(tmp_path):
    """Python starts every process with this module, which ends one that would connect."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, socket\n"
        "def refuse(*arguments):\n"
        "    os.write(2, f'CONNECTED {arguments[1:]}'.encode())\n"
        "    os._exit(99)\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
    )
    result = train(*TINY, "--config.steps=1", f"--workdir={tmp_path}/run", PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    check = "import socket; socket.create_connection(('localhost', 1))"
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    refused = subprocess.run([sys.executable, "-c", check], env=environment, check=False)
    assert refused.returncode == 99  # it does what it should
