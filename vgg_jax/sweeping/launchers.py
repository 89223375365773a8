"""Where the runs of a sweep are made: on the devices of this machine, or on a Ray cluster."""

import abc
import concurrent.futures
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vgg_jax.errors import UserError
from vgg_jax.sweeping.execution import LEFT, Outcome, execute
from vgg_jax.sweeping.trials import Trial


class Launcher(abc.ABC):
    """Makes runs, some at the same time; what goes wrong in one does not stop the others."""

    @abc.abstractmethod
    def start(self, trials: Sequence[Trial], retries: int) -> None:
        """Hands in the runs, each to be tried again `retries` times."""

    @abc.abstractmethod
    def poll(self, seconds: float) -> list[tuple[Trial, Outcome]]:
        """Returns the runs that ended since the last call, waiting for one at most so long."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Asks the runs under way to save and end, and starts no other; may be called again."""


class LocalLauncher(Launcher):
    """Runs on this machine, each on devices of its own."""

    def __init__(
        self,
        slots: Sequence[Mapping[str, str]],
        admits: Callable[[Trial], bool] | None = None,
    ) -> None:
        """Prepares one thread for each slot.

        Args:
          slots: environment variables as of `device_slots`.
          admits: asked before a run starts; if it says no, the run is left for later.
        """
        self._admits = admits
        self._slots: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for slot in slots:
            self._slots.put(slot)
        self._pool = ThreadPoolExecutor(len(slots), "run")
        self._futures: dict[Future[Outcome], Trial] = {}
        self._stop = threading.Event()

    def start(self, trials: Sequence[Trial], retries: int) -> None:
        self._futures = {self._pool.submit(self._run, trial, retries): trial for trial in trials}

    def poll(self, seconds: float) -> list[tuple[Trial, Outcome]]:
        ended, _ = concurrent.futures.wait(
            self._futures, seconds, concurrent.futures.FIRST_COMPLETED
        )
        return [(self._futures.pop(future), future.result()) for future in ended]

    def stop(self) -> None:
        self._stop.set()

    def _run(self, trial: Trial, retries: int) -> Outcome:
        if self._admits is not None and not self._admits(trial):
            return Outcome(LEFT, 0)
        slot = self._slots.get()
        try:
            return execute(trial, retries, slot, self._stop)
        finally:
            self._slots.put(slot)


def device_slots(runs_at_once: int | None, devices_per_run: int) -> list[dict[str, str]]:
    """Returns the environment variables of each of the runs that are active at the same time.

    GPUs are dealt out, `devices_per_run` to each; more runs than that makes share them, and their
    memory. A CPU and a TPU are left whole: one run at a time, unless more are to share them.

    Raises:
      UserError: fewer devices than a run is to have.
    """
    backend, count = _devices_at_hand()
    if backend != "gpu":
        if devices_per_run != 1:
            raise UserError(f"--devices_per_run deals out GPUs, and this machine has a {backend}")
        return [{} for _ in range(runs_at_once or 1)]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(count)]
    groups = [
        ",".join(names[i : i + devices_per_run])
        for i in range(0, count - devices_per_run + 1, devices_per_run)
    ]
    if not groups:
        raise UserError(
            f"a run of {devices_per_run} GPUs does not fit on {count}: change --devices_per_run"
        )
    wanted = runs_at_once or len(groups)
    return [
        {"CUDA_VISIBLE_DEVICES": groups[i % len(groups)]} | _memory(-(-wanted // len(groups)))
        for i in range(wanted)
    ]


def _memory(runs: float) -> dict[str, str]:
    """Returns the variable by which each of `runs` on one GPU leaves the others their memory."""
    name = "XLA_PYTHON_CLIENT_MEM_FRACTION"
    if runs <= 1 or name in os.environ:
        return {}
    return {name: f"{0.9 / runs:.3f}"}


def _devices_at_hand() -> tuple[str, int]:
    """Asks a process of its own: this one must not take hold of the devices."""
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    if result.returncode:
        reason = result.stderr.strip().splitlines()[-1]
        raise UserError(f"JAX finds no devices here: {reason}")
    backend, count = result.stdout.split()[-2:]
    return backend, int(count)


class RayLauncher(Launcher):
    """Runs on a Ray cluster, whose machines see the same files under the same paths."""

    def __init__(self, address: str | None, cpus_per_run: float, gpus_per_run: float) -> None:
        """Connects.

        Args:
          address: "auto" or HOST:PORT of a cluster; None starts one on this machine.
          cpus_per_run: cores that Ray sets aside for a run.
          gpus_per_run: GPUs that Ray sets aside for a run, which sees no others; a part of one,
            such as 0.25, where runs are to share it.

        Raises:
          UserError: Ray is not installed, nothing answers at the address, or no machine of the
            cluster has what a run wants.
        """
        try:
            import ray
        except ImportError:
            raise UserError("--launcher=ray needs Ray: pip install 'vgg_jax[ray]'") from None
        try:
            ray.init(
                address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
        except (ConnectionError, ray.exceptions.RayError) as error:
            raise UserError(
                f"no Ray cluster at {address}: {error}\n"
                "Start one by `ray start --head`, or leave --ray_address out; "
                "set RAY_AUTH_MODE=token if it asks for a token"
            ) from error
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(
            machine.get("CPU", 0) >= cpus_per_run and machine.get("GPU", 0) >= gpus_per_run
            for machine in machines
        ):
            raise UserError(
                f"no machine of the Ray cluster has {cpus_per_run:g} CPUs and {gpus_per_run:g} "
                "GPUs: change --cpus_per_run or --gpus_per_run"
            )
        self._ray = ray
        self._remote = ray.remote(
            num_cpus=cpus_per_run, num_gpus=gpus_per_run, max_retries=0, max_calls=1
        )(_execute_on_worker)
        self._environment = _memory(1 / gpus_per_run if gpus_per_run else 1)
        self._refs: dict[Any, Trial] = {}
        self._stopping = False

    def start(self, trials: Sequence[Trial], retries: int) -> None:
        here = str(Path.cwd())
        self._refs = {
            self._remote.remote(trial, retries, here, self._environment): trial for trial in trials
        }

    def poll(self, seconds: float) -> list[tuple[Trial, Outcome]]:
        ended, _ = self._ray.wait(list(self._refs), timeout=seconds)
        return [(self._refs.pop(ref), self._outcome(ref)) for ref in ended]

    def stop(self) -> None:
        # A KeyboardInterrupt there, upon which the run saves and ends; a second would not let it.
        if not self._stopping:
            for ref in self._refs:
                self._ray.cancel(ref)
        self._stopping = True

    def _outcome(self, ref: Any) -> Outcome:
        try:
            return self._ray.get(ref)
        except self._ray.exceptions.TaskCancelledError:
            return Outcome("stopped", 0)
        except self._ray.exceptions.RayError:  # its machine or its worker is gone
            return Outcome("failed", 1)


def _execute_on_worker(
    trial: Trial, retries: int, folder: str, environment: Mapping[str, str]
) -> Outcome:
    os.chdir(folder)  # paths of configs and run directories may be relative
    # Ray cancels by SIGINT, which a worker ignores if the sweep was started in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return execute(trial, retries, environment, threading.Event())
