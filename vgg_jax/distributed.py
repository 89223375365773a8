"""Several processes as one run: joining, agreeing, and what happens when one is lost.

Every process runs the same program on the same global arrays and differs only in the devices that
it feeds. All must decide alike what comes next: `global_max` and
`all_or_none`.
"""

import itertools
import os
import re
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vgg_jax.errors import EXIT_USER_ERROR, UserError

T = TypeVar("T")

EXIT_LOST_PROCESS = 4

# Seconds after which a process that is not heard of counts as lost, and after which one that ends
# no longer waits for the others.
HEARTBEAT_SECONDS = 60
START_SECONDS = 300  # for all processes to appear, and to get ready
_COMPARE_SECONDS = 20  # for processes that have just met to say where they are

# How a collective operation that a process has left fails: gloo on CPUs, NCCL on GPUs, and JAX's
# coordination service.
_LOST = re.compile(r"gloo|nccl|UNAVAILABLE|DEADLINE_EXCEEDED|coordination", re.IGNORECASE)


def join(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> None:
    """Makes this process one of several that train together; before any other use of JAX.

    Only process 0 logs from here on. JAX's coordination service ends this process (SIGABRT, with
    a message that names the lost one) when another is lost for `HEARTBEAT_SECONDS`.

    Args:
      coordinator: "HOST:PORT" of process 0, at a free port; None, as for the rest, if JAX
        should ask Slurm, Open MPI, a TPU pod or Kubernetes.
      processes: their number.
      process_id: this one's, from 0.

    Raises:
      UserError: the arguments make no sense, no cluster is found, or the others do not come.
    """
    given = (coordinator, processes, process_id)
    if any(value is not None for value in given):
        if coordinator is None or processes is None or process_id is None:
            raise UserError("give all of --coordinator, --processes and --process_id, or none")
        if not re.fullmatch(r".+:\d+", coordinator):
            raise UserError(f"--coordinator={coordinator} is not an address; give HOST:PORT")
        if not 0 <= process_id < processes:
            raise UserError(
                f"--process_id={process_id} is not among --processes={processes}; "
                f"count from 0 to {processes - 1}"
            )
    # `training.preemption` handles SIGTERM, and the loop agrees on the step to stop at.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process_id,
            cluster_detection_method=None if coordinator is None else "deactivate",
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except ValueError as error:
        raise UserError(
            f"found no cluster to join ({error}).\nUse srun, mpirun or a TPU pod, or give "
            "--coordinator=HOST:PORT --processes=N --process_id=I"
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise UserError(
            f"could not join the other processes: {_first_line(error)}.\n"
            "Start all of them, with the same --coordinator, and leave its port free"
        ) from error
    if jax.process_index() != 0:
        logging.set_verbosity(logging.ERROR)


def global_max(value: int) -> int | jax.Array:
    """Returns the highest value that any process gives; every process has to call this.

    The number is made on the devices, behind what they were given to do before. To read it (`int`)
    is to wait for that; to call this is not.
    """
    if jax.process_count() == 1:
        return value
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    everyone = NamedSharding(Mesh(np.asarray(devices), ("everyone",)), PartitionSpec("everyone"))
    values = np.full(jax.local_device_count(), value, np.int32)
    return _max(jax.make_array_from_process_local_data(everyone, values))


_max = jax.jit(jax.numpy.max)


def all_or_none(action: Callable[[], T]) -> T:
    """Returns what `action` returns, if it raises a `UserError` on no process.

    Raises:
      UserError: on all processes if on any: without this the others would wait for it.
    """
    error = None
    try:
        result = action()
    except UserError as mistake:
        error = mistake
    # On CPUs a first collective operation fails if the others are 30 s behind, as those may be
    # who read a slow disk.
    ocp.multihost.get_barrier_sync_fn()(key="all_or_none", timeout_ms=1000 * START_SECONDS)
    failed = int(global_max(int(error is not None)))
    if error is not None:
        raise error
    if failed:
        raise UserError("another process of this run failed; see what it printed")
    return result


class OutOfStepError(Exception):
    """Processes wait at different barriers: what they did together failed on some of them."""


class MatchedBarrier:
    """A barrier that fails on all processes if one of them waits at another barrier.

    A process that skips a barrier after an error, and waits at a later one, would keep all of them
    waiting until the timeout: Orbax does so where a write fails. Here they meet first, wherever
    each is, and then compare places. If that fails they meet once more, which tells a process
    elsewhere from one that was lost. In a run of one process it does nothing.
    """

    _instances = itertools.count()

    def __init__(self) -> None:
        """Every process has to make its barriers in the same order."""
        self._prefix = f"matched_{next(self._instances)}"
        self._meetings = itertools.count()
        self._wait = ocp.multihost.get_barrier_sync_fn()
        self._apart = False

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Returns when all processes have called this for the n-th time, and with the same key.

        Args:
          key: where this process is.
          timeout_ms: to wait for the others, in milliseconds.

        Raises:
          OutOfStepError: the keys differ, or have differed before.
          JaxRuntimeError: the others did not come, or one was lost.
        """
        if self._apart:
            raise OutOfStepError("another process failed before")
        here = f"{self._prefix}_{next(self._meetings)}"
        self._wait(key=here, timeout_ms=timeout_ms)
        try:
            self._wait(key=f"{here}_{key}", timeout_ms=1000 * _COMPARE_SECONDS)
        except jax.errors.JaxRuntimeError as error:
            self._wait(key=f"{here}_apart", timeout_ms=1000 * _COMPARE_SECONDS)
            self._apart = True
            raise OutOfStepError(f"no other process waits at {key}") from error


@contextmanager
def exit_if_peer_lost() -> Generator[None, None, None]:
    """While entered, a collective operation that fails for want of a process ends this one.

    At once, with exit status `EXIT_LOST_PROCESS`: every orderly way out would wait for the lost
    process. If the operation waits instead of failing, as it may on GPUs and TPUs, the
    coordination service ends this process (`join`).
    """
    try:
        yield
    except Exception as error:
        if not is_peer_lost(error):
            raise
        print(
            f"error: process {jax.process_index()} lost another of the {jax.process_count()} "
            f"({_first_line(error)}).\n"
            "Run the same command on all of them to resume from the newest checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_LOST_PROCESS)


@contextmanager
def exit_if_alone_in_error() -> Generator[None, None, None]:
    """While entered, a `UserError` ends this process at once if the run has others.

    They have not met it, as where an image of this process's share cannot be decoded, and every
    orderly way out would wait for them. What all meet is for `all_or_none`.
    """
    try:
        yield
    except UserError as error:
        if jax.process_count() == 1:
            raise
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(EXIT_USER_ERROR)


def is_peer_lost(error: Exception) -> bool:
    """Says whether an operation failed for want of another process.

    JAX raises its own error, or a ValueError if the operation fails as it is dispatched.
    """
    kinds = (jax.errors.JaxRuntimeError, ValueError)
    return (
        jax.process_count() > 1
        and isinstance(error, kinds)
        and _LOST.search(str(error)) is not None
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
