"""Several processes as one run, over loopback: real processes, two devices each."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.fault_injection.victim import write_photos
from tests import impatient_train
from tests.short_runs import (
    ROOT,
    arrays,
    checkpoints,
    metrics,
    start,
    train,
    wait_for_checkpoint,
    wait_for_step,
)
from vgg_jax.distributed import EXIT_LOST_PROCESS, HEARTBEAT_SECONDS, is_peer_lost
from vgg_jax.train import EXIT_NON_FINITE, EXIT_STORAGE

# Compiled in a moment, and steps enough to be stopped between the first and the last. Plain SGD,
# whose steps do not blow up rounding as Adam's do where a gradient is zero.
STEPS = 100
NET = [
    "--config=configs/vgg11.py:digits,bn",
    "--config.data.image_size=8",
    "--config.data.batch_size=16",
    "--config.model.stages=('3-4','3-8')",
    "--config.model.head=linear",
    "--config.optimizer.name=sgd",
    f"--config.steps={STEPS}",
    "--config.eval.every_steps=10",
    "--config.log.every_steps=1",
    "--config.log.stuck_after_steps=0",
    "--config.checkpoint.every_steps=1000",
]
LSUV = [*NET, "--config.model.kernel_init=lsuv"]  # the processes draw it together


@pytest.mark.parametrize(
    ("error", "processes", "lost"),
    [
        # What was seen: of an operation in flight, and of one that is being dispatched.
        (jax.errors.JaxRuntimeError("INTERNAL: Gloo AllReduce failed: Read error"), 2, True),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), 2, True),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), 1, False),
        (ValueError("too many values to unpack"), 2, False),
        (OSError("No space left on device"), 2, False),
    ],
)
def test_which_errors_are_those_of_a_lost_process(error, processes, lost, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    assert is_peer_lost(error) == lost


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def python_two(code: str, *environments: dict[str, str]) -> list[subprocess.Popen]:
    """Starts two processes of Python on one device each; their arguments are 0 and 1."""
    return [
        subprocess.Popen(
            [sys.executable, "-c", code, str(process)],
            cwd=ROOT,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process, environment in enumerate(environments)
    ]


@pytest.mark.parametrize(
    ("second", "raised"),
    [
        ("barrier(key='elsewhere', timeout_ms=60000)", "OutOfStepError False"),
        (
            "barrier._wait(key='matched_0_1', timeout_ms=60000)",
            "JaxRuntimeError True",
        ),  # and it is gone
    ],
    ids=["elsewhere", "lost"],
)
def test_a_process_elsewhere_is_told_from_one_that_is_lost(second, raised):
    code = f"""
import os, sys
from vgg_jax import distributed
distributed._COMPARE_SECONDS = 2
process = int(sys.argv[1])
distributed.join("localhost:{free_port()}", 2, process)
barrier = distributed.MatchedBarrier()
barrier(key="together", timeout_ms=60000)
try:
    if process == 0:
        barrier(key="here", timeout_ms=60000)
    else:
        {second}
except Exception as error:
    print(type(error).__name__, distributed.is_peer_lost(error), flush=True)
os._exit(0)
"""
    (_, out, err), _ = finish(python_two(code, {}, {}))
    assert out.strip() == raised, err


def start_two(
    *arguments: str, second: tuple[str, ...] = (), program: str = "vgg_jax.train"
) -> list[subprocess.Popen]:
    """Starts two processes of one run; `second` are arguments of the second alone."""
    joined = [*arguments, f"--coordinator=localhost:{free_port()}", "--processes=2"]
    return [
        start(*joined, f"--process_id={i}", *more, program=program, JAX_NUM_CPU_DEVICES="2")
        for i, more in enumerate(((), second))
    ]


def finish(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Returns exit status, output and error output of each."""
    outputs = [process.communicate(timeout=300) for process in processes]
    return [(p.returncode, *texts) for p, texts in zip(processes, outputs, strict=True)]


SCHEDULERS = ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST")
# JAX derives the coordinator's port from the job's number: the last 4096 ports.
FIRST_PORT = 65536 - 4096


@pytest.fixture
def _no_scheduler(monkeypatch):
    """Hides the one of where the tests themselves run."""
    for name in SCHEDULERS:
        monkeypatch.delenv(name, raising=False)


def slurm(job: int, process: int) -> dict[str, str]:
    """What srun gives the processes of a job on one node."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def open_mpi(job: int, process: int) -> dict[str, str]:
    """What Open MPI's mpirun gives them."""
    return {
        "OMPI_MCA_orte_hnp_uri": f"{job}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(process),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process),
    }


def free_job() -> int:
    """A job's number whose port is free."""
    for job in range(4096):
        with socket.socket() as port:
            try:
                port.bind(("localhost", FIRST_PORT + job))
            except OSError:
                continue
            return job
    raise AssertionError("no free port")


@pytest.fixture
def alone(tmp_path):
    """The run that one process makes on one device, meanwhile; to be waited for."""
    with start(*LSUV, f"--workdir={tmp_path}/alone") as process:
        yield process


def evaluations(workdir: Path) -> dict[int, dict]:
    return {line["step"]: line for line in metrics(workdir) if "eval/top1" in line}


@pytest.mark.usefixtures("_no_scheduler")
def test_killed_then_stopped_then_finished_by_one_process(alone, tmp_path):
    """Every layout goes on from the one before; the end is that of one process on one device.

    The processes find each other by an address, and then by what a scheduler tells them.
    """
    workdir = tmp_path / "run"

    # pmap, killed.
    often = ["--config.parallel.mode=pmap", "--config.checkpoint.every_steps=4"]
    options = [*LSUV, *often, f"--workdir={workdir}"]
    processes = start_two(*options, program="tests.impatient_train")
    wait_for_checkpoint(workdir, 8, processes[0])
    processes[1].kill()
    _, err = processes[0].communicate(timeout=impatient_train.SECONDS + 60)
    processes[1].communicate()
    if processes[0].returncode == EXIT_LOST_PROCESS:  # a collective operation noticed
        assert "process 0 lost another of the 2" in err
        assert "same command" in err
    else:  # the coordination service did
        assert processes[0].returncode == -signal.SIGABRT, err
        assert "another task died" in err
    reached = metrics(workdir)[-1]["step"]
    assert reached < STEPS

    # One of them finds the newest checkpoint damaged: neither takes it. Then jit, stopped.
    newest = max(checkpoints(workdir))
    for path in (workdir / "checkpoints" / str(newest) / "state" / "d").iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    job, joined = free_job(), [*LSUV, "--distributed", f"--workdir={workdir}"]
    processes = [start(*joined, JAX_NUM_CPU_DEVICES="2", **slurm(job, i)) for i in range(2)]
    wait_for_step(workdir, reached + 12, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    (status, out, err), (other_status, other_out, other_err) = finish(processes)
    assert (status, other_status) == (0, 0), err + other_err
    assert f"checkpoint {newest} is corrupt" in err
    assert f"resuming after step {newest - 4}" in out
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["exit_reason"] == "SIGTERM"
    assert reached < summary["steps"] < STEPS
    assert summary["devices"]["count"] == 4
    assert summary["devices"]["processes"] == 2
    assert [s for s in checkpoints(workdir) if s >= newest] == [summary["steps"]]
    # One voice: the second process prints nothing of its own.
    assert "run the same command again to resume" in out
    assert [line for line in other_out.splitlines() if "Gloo" not in line] == []
    over_processes = evaluations(workdir)

    # One process, eight devices.
    layout = ["--config.parallel.model=2", "--config.parallel.shard_optimizer=true"]
    result = train(*LSUV, *layout, f"--workdir={workdir}", JAX_NUM_CPU_DEVICES="8")
    assert f"resuming after step {summary['steps']}" in result.stdout, result.stderr

    _, err = alone.communicate(timeout=300)
    assert alone.returncode == 0, err
    expected, got = arrays(tmp_path / "alone", STEPS), arrays(workdir, STEPS)
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-5, err_msg=name)
    expected = evaluations(tmp_path / "alone")
    assert over_processes.keys() <= evaluations(workdir).keys() == expected.keys()
    for step, line in evaluations(workdir).items():
        assert line["eval/examples"] == 359
        assert line["eval/top1"] == pytest.approx(expected[step]["eval/top1"], abs=1.5 / 359)


def test_what_stops_one_process_at_the_start_stops_all(tmp_path):
    missing = ("--config.data.source=npz", f"--config.data.dir={tmp_path}/none.npz")
    (status, _, err), (other_status, _, other_err) = finish(
        start_two(*NET, f"--workdir={tmp_path}/run", second=missing)
    )
    assert (status, other_status) == (2, 2), err + other_err
    assert "another process of this run failed" in err
    assert "none.npz" in other_err
    assert not (tmp_path / "run").exists()


def test_an_image_that_one_process_cannot_decode_ends_it_at_once(tmp_path):
    for folder in ("whole", "damaged"):
        write_photos(tmp_path / folder)
    photos = ["--config.data.source=folder", "--config.data.eval_split=train"]
    photos += ["--config.data.augment=scale_crop", "--config.data.scale=(8,12)"]
    photos += ["--config.data.eval_resize=8", f"--config.data.dir={tmp_path}/whole"]
    processes = start_two(
        *NET,
        *photos,
        f"--workdir={tmp_path}/run",
        second=(f"--config.data.dir={tmp_path}/damaged",),
    )
    wait_for_step(tmp_path / "run", 2, processes[0])
    for path in (tmp_path / "damaged").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    # It does not wait for the other one, which may notice only when a heartbeat is missed.
    _, err = processes[1].communicate(timeout=HEARTBEAT_SECONDS - 20)
    assert processes[1].returncode == 2, err
    (line,) = err.splitlines()
    assert line.endswith("is no image that can be decoded: replace or remove it")
    processes[0].kill()
    processes[0].communicate()


def test_diagnosis_over_processes(tmp_path):
    """A loss that stays at guessing, whose layers are measured, and then one that diverges."""
    processes = start_two(
        *NET,
        "--config.model.kernel_init=paper",
        "--config.log.stuck_after_steps=2",
        # Steps too small to leave the start, then one that overflows.
        "--config.optimizer.schedule=step",
        "--config.optimizer.warmup_epochs=0.0",
        "--config.optimizer.decay_epochs=(0.05,)",
        "--config.optimizer.decay_factor=1e30",
        f"--workdir={tmp_path}/run",
    )
    (status, _, err), (other_status, _, other_err) = finish(processes)
    assert (status, other_status) == (EXIT_NON_FINITE, EXIT_NON_FINITE), err + other_err
    assert "still that of guessing" in err
    assert "RMS of dL/dz" in err
    assert "still that of guessing" not in other_err
    for text in (err, other_err):
        assert "the first array that is not finite" in text


def test_a_full_disk_ends_both(tmp_path):
    """The second waits for what the first one cannot write, until both know."""
    processes = start_two(*NET, "--config.checkpoint.every_steps=2", f"--workdir={tmp_path}/run")
    wait_for_step(tmp_path / "run", 4, processes[0])
    for process in processes:  # less than a checkpoint's largest file
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (3000, 3000))
    (status, _, err), (other_status, _, other_err) = finish(processes)
    ends = (EXIT_STORAGE, EXIT_LOST_PROCESS, -signal.SIGABRT)
    assert EXIT_STORAGE in (status, other_status), err + other_err
    assert status in ends, err
    assert other_status in ends, other_err
    assert "Traceback" not in err + other_err


@pytest.mark.parametrize("scheduler", [slurm, open_mpi])
@pytest.mark.usefixtures("_no_scheduler")
def test_detected_cluster(scheduler):
    """The environment of a scheduler is all that two processes need to find each other."""
    job = free_job()
    code = "import jax; from vgg_jax.distributed import join; join(); print(jax.process_count())"
    for status, out, err in finish(python_two(code, scheduler(job, 0), scheduler(job, 1))):
        assert status == 0, err
        assert out.splitlines()[-1] == "2"


@pytest.mark.usefixtures("_no_scheduler")
def test_no_cluster_to_join(tmp_path):
    result = train(*NET, "--distributed", f"--workdir={tmp_path}/run")
    assert result.returncode == 2
    first, second = result.stderr.splitlines()
    assert first.startswith("error: found no cluster to join")
    assert "--coordinator=HOST:PORT --processes=N --process_id=I" in second
