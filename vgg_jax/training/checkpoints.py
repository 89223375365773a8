"""Checkpoints by Orbax: written in the background, verified when read."""

import enum
import json
import re
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from vgg_jax.distributed import global_max
from vgg_jax.errors import UserError
from vgg_jax.training.state import TrainState

Extras = dict[str, Any]
METRIC = "eval/top1"

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

    def __init__(self, folder: Path, keep: int) -> None:
        """Opens or makes a folder.

        Args:
          folder: where the checkpoints are, one sub-folder per step.
          keep: number of newest ones to keep; the one with the highest top-1 accuracy stays too.
        """
        policy = policies.AnyPreservationPolicy(
            [
                policies.LatestN(keep),
                policies.BestN(
                    get_metric_fn=lambda metrics: metrics[METRIC],
                    reverse=False,
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        self._folder = folder.resolve()  # Orbax takes absolute paths only
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy, cleanup_tmp_directories=True
            ),
        )

    def steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState, extras: Extras, top1: float | None = None) -> None:
        """Starts to write a checkpoint; a step that is there already is left as it is.

        Returns once the arrays are copied, before they are on the disk (`wait`).

        Args:
          state: without a device axis (`Parallel.storable`).
          extras: JSON values to keep beside the arrays.
          top1: validation accuracy of this very state, if it was just measured.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        content: dict[str, Any] = {"extras": extras, "fingerprint": fingerprint(state)}
        content["checksum"] = _checksum(content)
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), content=ocp.args.JsonSave(content)
            ),
            metrics=None if top1 is None else {METRIC: top1},
        )

    def restore(self, abstract: TrainState) -> tuple[TrainState, Extras] | None:
        """Returns the newest checkpoint that is intact, or None if there is none at all.

        A corrupt one (anything missing, cut short or altered) is reported, renamed to
        `corrupt-STEP` and passed over. All processes come to the same verdict.

        Args:
          abstract: shapes, dtypes and shardings wanted, which may be of another topology.

        Raises:
          UserError: the storage failed, which says nothing about the checkpoint: all are left as
            they are; or there are checkpoints and every one of them is corrupt.
        """
        steps = self.steps()
        for step in reversed(steps):
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
        if steps:
            raise UserError(
                f"every checkpoint in {self._folder} is corrupt; start again with another --workdir"
            )
        return None

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
        # How Orbax reports what is missing, cut short or altered; and what the storage fails at,
        # its own reads as an OSError and TensorStore's as a ValueError that opens with a status.
        except (ValueError, KeyError, OSError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            storage = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
            if storage or _STORAGE_STATUS.match(reason):
                return None, _Verdict.UNREADABLE, reason
            return None, _Verdict.CORRUPT, reason

    def wait(self) -> None:
        """Returns when everything saved is on the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then ends the background threads."""
        self._manager.close()

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            (self._folder / str(step)).rename(self._folder / f"corrupt-{step}")
        int(global_max(0))  # not before it is renamed
        self._manager.reload()


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
