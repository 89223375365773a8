"""Several processes as one run, over loopback: real processes, two devices each."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.runs import STEPS, TINY, arrays, metrics, start, train, wait_for_step
from vgg_jax.training.hosts import EXIT_LOST_PROCESS, HEARTBEAT_SECONDS

# Plain SGD, whose steps do not blow up rounding as Adam's do where a gradient is zero.
NET = [*TINY, "--config.model.norm=batch", "--config.optimizer.name=sgd"]


def start_two(*arguments: str, second: tuple[str, ...] = ()) -> list[subprocess.Popen]:
    """Starts two processes of one run; `second` are arguments of the second alone."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    joined = [*arguments, f"--coordinator=localhost:{port}", "--processes=2"]
    devices = {"JAX_NUM_CPU_DEVICES": "2"}
    return [
        start(*joined, "--process_id=0", **devices),
        start(*joined, "--process_id=1", *second, **devices),
    ]


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Returns exit status, output and error output of each."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(p.returncode, *texts) for p, texts in zip(processes, outputs, strict=True)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run that one process makes on one device."""
    workdir = tmp_path_factory.mktemp("runs") / "alone"
    result = train(*NET, f"--workdir={workdir}")
    assert result.returncode == 0, result.stderr
    return workdir


def assert_same_training(workdir: Path, alone: Path) -> None:
    expected, got = arrays(alone), arrays(workdir)
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-5, err_msg=name)
    last, expected_last = metrics(workdir)[-1], metrics(alone)[-1]
    assert last["eval/examples"] == expected_last["eval/examples"] == 359
    assert last["eval/top1"] == pytest.approx(expected_last["eval/top1"], abs=1.5 / 359)


def test_sigterm_to_one_process_saves_one_checkpoint_that_one_process_goes_on_from(alone, tmp_path):
    workdir = tmp_path / "stopped"
    rare = ["--config.checkpoint.every_steps=1000", "--config.log.every_steps=1"]
    processes = start_two(*NET, *rare, f"--workdir={workdir}")
    wait_for_step(workdir, 5, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    (status, out, err), (other_status, other_out, other_err) = finish(processes)
    assert (status, other_status) == (0, 0), err + other_err
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["exit_reason"] == "SIGTERM"
    assert 5 <= summary["steps"] < STEPS
    assert summary["devices"]["count"] == 4
    assert summary["devices"]["processes"] == 2
    assert [p.name for p in (workdir / "checkpoints").iterdir()] == [str(summary["steps"])]
    # One voice: the second process prints nothing of its own.
    assert "type the same command to go on" in out
    assert [line for line in other_out.splitlines() if "Gloo" not in line] == []

    layout = ["--config.parallel.model=2", "--config.parallel.shard_optimizer=true"]
    result = train(*NET, *layout, f"--workdir={workdir}", JAX_NUM_CPU_DEVICES="8")
    assert f"going on after step {summary['steps']}" in result.stdout, result.stderr
    assert_same_training(workdir, alone)


def test_a_killed_process_ends_the_other_and_both_start_again(alone, tmp_path):
    workdir = tmp_path / "killed"
    options = ["--config.log.every_steps=1", f"--workdir={workdir}"]
    processes = start_two(*NET, *options, "--config.parallel.mode=pmap")
    wait_for_step(workdir, 10, processes[0])
    processes[1].kill()
    _, err = processes[0].communicate(timeout=HEARTBEAT_SECONDS + 60)
    processes[1].communicate()
    if processes[0].returncode == EXIT_LOST_PROCESS:  # a collective operation noticed
        assert "process 0 lost another of the 2" in err
        assert "same command" in err
    else:  # the coordination service did
        assert processes[0].returncode == -signal.SIGABRT, err
        assert "another task died" in err

    # One of them finds the newest checkpoint damaged: neither takes it.
    newest = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    for path in (workdir / "checkpoints" / str(newest) / "state" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    (status, out, err), (other_status, _, other_err) = finish(start_two(*NET, *options))
    assert (status, other_status) == (0, 0), err + other_err
    assert f"checkpoint {newest} is damaged" in err
    assert f"going on after step {newest - 4}" in out
    assert_same_training(workdir, alone)


def test_what_stops_one_process_at_the_start_stops_all(tmp_path):
    missing = ("--config.data.source=npz", f"--config.data.dir={tmp_path}/none.npz")
    (status, _, err), (other_status, _, other_err) = finish(
        start_two(*NET, f"--workdir={tmp_path}/run", second=missing)
    )
    assert (status, other_status) == (2, 2), err + other_err
    assert "another process of this run cannot go on" in err
    assert "none.npz" in other_err
    assert not (tmp_path / "run").exists()
