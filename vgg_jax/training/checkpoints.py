"""Checkpoints by Orbax: written in the background, verified when read."""

import contextlib
import enum
import json
import re
import shutil
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from vgg_jax.distributed import MatchedBarrier, OutOfStepError, global_max, is_peer_lost
from vgg_jax.errors import UserError
from vgg_jax.runs.directory import StorageError, storing
from vgg_jax.training.hushed import hush_orbax
from vgg_jax.training.seals import damage, remove_seal, sealed_steps, write_seal
from vgg_jax.training.state import TrainState

Extras = dict[str, Any]
METRIC = "eval/top1"
_LONGEST_REASON = 200  # characters
_OVERHEAD_BYTES = 2**20  # of a checkpoint beside its arrays: the descriptions of some hundred

# TensorStore's: a failed read, as against NOT_FOUND, DATA_LOSS, OUT_OF_RANGE and the like.
_STORAGE_STATUS = re.compile(
    "(UNKNOWN|PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|RESOURCE_EXHAUSTED|ABORTED|CANCELLED"
    "|DEADLINE_EXCEEDED|INTERNAL): "
)


class _Verdict(enum.IntEnum):
    """On one checkpoint; if processes differ, the highest holds for all."""

    INTACT = 0
    CORRUPT = 1
    UNREADABLE = 2


class Checkpoints:
    """The newest k checkpoints of a run and the best one.

    A checkpoint is the state's arrays and a JSON object: what the caller wants to keep beside
    them, and a fingerprint of the arrays, so that corruption is noticed when it is read.
    """

    def __init__(self, folder: Path, keep: int | None = None) -> None:
        """Opens or makes a folder.

        Args:
          folder: where the checkpoints are, one sub-folder per step.
          keep: number of newest ones to keep; the one with the highest top-1 accuracy stays too.
            None only reads, and changes nothing: the run may be training now.
        """
        policy = policies.AnyPreservationPolicy(
            [
                policies.LatestN(keep or 1),
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[METRIC],
                    reverse=False,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        hush_orbax()
        self._read_only = keep is None
        self._folder = folder.resolve()  # Orbax takes absolute paths only
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                cleanup_tmp_directories=keep is not None,
                read_only=keep is None,
                # Where one process cannot write, all are told, and none waits for a folder that
                # another could not make.
                async_options=ocp.AsyncOptions(
                    barrier_sync_fn=MatchedBarrier(), create_directories_asynchronously=False
                ),
            ),
        )
        # Waits for a save to be complete, seals it, and has the error if it failed.
        self._sealer = ThreadPoolExecutor(1, "seal")
        self._saving: Future[None] | None = None

    def steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, extras: Extras, top1: float | None = None) -> None:
        """Starts to write a checkpoint; a step that is there already is left as it is.

        Returns once the arrays are copied, before they are on the disk (`wait`).

        Args:
          state: after that step.
          extras: JSON values to keep beside the arrays.
          top1: validation accuracy of this very state, if it was just measured.

        Raises:
          StorageError: there is no room for it, or the save before it failed. Those on the disk
            are left as they are.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self.wait()
        self._check_space(state)
        content: dict[str, Any] = {"extras": extras, "fingerprint": fingerprint(state)}
        content["checksum"] = _checksum(content)
        with self._saved():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), content=ocp.args.JsonSave(content)
                ),
                metrics=None if top1 is None else {METRIC: top1},
            )
        self._saving = self._sealer.submit(self._finish, step)

    def restore(self, abstract: TrainState) -> tuple[TrainState, Extras] | None:
        """Returns the newest checkpoint that is intact, or None if there is none at all.

        A corrupt one (anything missing, cut short or altered) is reported, renamed to
        `corrupt-STEP` unless this only reads, and passed over. All processes come to the same
        verdict.

        Args:
          abstract: shapes, dtypes and shardings wanted, which may be of another topology.

        Raises:
          UserError: the storage failed, which says nothing about the checkpoint: all are left as
            they are; or there are checkpoints and every one of them is corrupt.
        """
        steps = self.steps()
        vanished = [step for step in sealed_steps(self._folder) if step > max(steps, default=-1)]
        for step in reversed(steps + vanished):
            restored, verdict, reason = None, *self._look(step)
            if (verdict := _Verdict(int(global_max(verdict)))) == _Verdict.INTACT:
                restored, verdict, reason = self._read(step, abstract)
                verdict = _Verdict(int(global_max(verdict)))
            if verdict == _Verdict.UNREADABLE:
                raise UserError(
                    f"cannot read checkpoint {step} in {self._folder} now: {reason}.\n"
                    "Nothing was changed. Run the same command again when the storage answers"
                )
            if restored is not None and verdict == _Verdict.INTACT:
                content = dict(restored.content)
                if content.pop("checksum", None) != _checksum(content):
                    reason = "its JSON does not match its checksum"
                elif fingerprint(restored.state) != content["fingerprint"]:
                    reason = "its arrays do not match their fingerprint"
                else:
                    return restored.state, content["extras"]
            logging.warning("checkpoint %d is corrupt (%s); using the one before", step, reason)
            self._set_aside(step)
        if steps or vanished:
            raise UserError(
                f"every checkpoint in {self._folder} is corrupt; start again with another --workdir"
            )
        return None

    def _look(self, step: int) -> tuple["_Verdict", str]:
        """Compares the files of a checkpoint with its seal, on process 0; a verdict, and why."""
        if jax.process_index() != 0:
            return _Verdict.INTACT, "process 0 says so"
        try:
            reason = damage(self._folder, step)
        except OSError as error:
            return _Verdict.UNREADABLE, error.strerror or str(error)
        return (_Verdict.CORRUPT, reason) if reason else (_Verdict.INTACT, "")

    def _read(self, step: int, abstract: TrainState) -> tuple[Any, "_Verdict", str]:
        """Reads this process's part of a checkpoint; returns it or None, a verdict, and why.

        Without waiting for other processes, which may have met an error.
        """
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"read_by_{me}"
        )
        options = ocp.CheckpointManagerOptions(create=False, multiprocessing_options=alone)
        wanted = ocp.args.Composite(
            state=ocp.args.StandardRestore(abstract), content=ocp.args.JsonRestore()
        )
        try:
            with ocp.CheckpointManager(self._folder, options=options) as reader:
                return reader.restore(step, args=wanted), _Verdict.INTACT, ""
        # Orbax reports what is missing, cut short or altered as whatever it stumbled over, a bare
        # `Exception` included; and what the storage fails at, its own reads as an OSError and
        # TensorStore's as a ValueError that opens with a status.
        except Exception as error:
            reason = _first_line(error)
            storage = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
            if storage or _STORAGE_STATUS.match(reason):
                return None, _Verdict.UNREADABLE, reason
            return None, _Verdict.CORRUPT, reason

    def wait(self) -> None:
        """Returns when everything saved is on the disk.

        Raises:
          StorageError: the last save failed.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            with self._saved():
                saving.result()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes; after an error of the storage without waiting.

        The save that is under way may wait for another process, which waits for this one.
        """
        if isinstance(error, StorageError):
            self._sealer.shutdown(wait=False)
        else:
            self.close()

    def close(self) -> None:
        """Waits, then ends the background threads; a save that fails now is not reported."""
        self._sealer.shutdown()
        with contextlib.suppress(Exception):
            self._manager.close()

    def _check_space(self, state: TrainState) -> None:
        needed = _OVERHEAD_BYTES + sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        with storing(self._folder):
            free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise StorageError(
                f"no room for a checkpoint in {self._folder}: it needs {needed / 1e6:,.1f} MB, "
                f"and {free / 1e6:,.1f} MB are free"
            )

    def _finish(self, step: int) -> None:
        """Waits until the save is complete, and seals it."""
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            write_seal(self._folder, step)
            kept = self._manager.all_steps()
            for sealed in sealed_steps(self._folder):
                if sealed not in kept:
                    remove_seal(self._folder, sealed)

    @contextlib.contextmanager
    def _saved(self) -> Iterator[None]:
        """While entered, any error is one of the storage: Orbax wraps it in its own.

        But for one of JAX, or of a process that another was lost to.
        """
        try:
            yield
        except jax.errors.JaxRuntimeError:
            raise
        except Exception as error:
            if is_peer_lost(error):
                raise
            raise StorageError(
                f"cannot write a checkpoint in {self._folder}: {_cause(error)}"
            ) from error

    def _set_aside(self, step: int) -> None:
        if self._read_only:
            return
        if jax.process_index() == 0:
            aside = self._folder / f"corrupt-{step}"
            if (self._folder / str(step)).exists():
                shutil.rmtree(aside, ignore_errors=True)
                (self._folder / str(step)).rename(aside)
            remove_seal(self._folder, step)
        int(global_max(0))  # not before it is renamed
        self._manager.reload()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST_REASON]


def _cause(error: BaseException) -> str:
    """Returns what went wrong in a save, behind the barriers that failed because of it."""
    cause: BaseException | None = error
    while isinstance(cause, OutOfStepError | jax.errors.JaxRuntimeError):
        cause = cause.__context__
    return "another process of this run failed to" if cause is None else _first_line(cause)


def _checksum(content: dict[str, Any]) -> int:
    """Returns the CRC-32 of JSON values; the storage format has none for them."""
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def fingerprint(state: TrainState) -> list[int]:
    """Returns one 32-bit number a leaf, which any flipped bit or swapped pair of words changes.

    An integer sum modulo 2**32, so the same on every topology and in every order of summation.
    """
    return [int(number) for number in jax.device_get(_leaf_sums(jax.tree.leaves(state)))]


@jax.jit
def _leaf_sums(leaves: list[jax.Array]) -> list[jax.Array]:
    def leaf_sum(leaf: jax.Array) -> jax.Array:
        words = leaf.astype(jnp.uint32) if leaf.dtype == bool else leaf
        words = jax.lax.bitcast_convert_type(words, jnp.uint32).ravel()
        # Odd weights are invertible modulo 2**32: no change of a single word is lost.
        weights = 2 * jax.lax.iota(jnp.uint32, words.size) + 1
        return jnp.sum(words * weights, dtype=jnp.uint32)

    return [leaf_sum(leaf) for leaf in leaves]
