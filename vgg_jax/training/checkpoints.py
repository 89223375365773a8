"""Checkpoints by Orbax: written in the background, verified when read."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from vgg_jax.errors import UserError
from vgg_jax.training.state import TrainState

Extras = dict[str, Any]
METRIC = "eval/top1"


class Checkpoints:
    """The newest k checkpoints of a run and the best one.

    A checkpoint is the state's arrays and a JSON object: what the caller wants to keep beside
    them, and a fingerprint of the arrays, so that damage is noticed when it is read.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        """Opens or makes a folder.

        Args:
          folder: where the checkpoints are, one sub-folder a step.
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
          top1: validation accuracy of this very state, where it was just measured.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        content = {"extras": extras, "fingerprint": fingerprint(state)}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), content=ocp.args.JsonSave(content)
            ),
            metrics=None if top1 is None else {METRIC: top1},
        )

    def restore(self, abstract: TrainState) -> tuple[TrainState, Extras] | None:
        """Returns the newest checkpoint that can be read, or None where there is none at all.

        A damaged one is reported, renamed to `damaged-STEP` and passed over.

        Args:
          abstract: shapes, dtypes and shardings wanted, which may be of another topology.

        Raises:
          UserError: where there are checkpoints and not one of them can be read.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                restored = self._manager.restore(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardRestore(abstract), content=ocp.args.JsonRestore()
                    ),
                )
                if fingerprint(restored.state) != restored.content["fingerprint"]:
                    raise ValueError("its arrays are not those that were saved")
            # Whatever a damaged file makes the libraries below raise, the answer is the same.
            except Exception as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logging.warning("checkpoint %d is damaged (%s); using the one before", step, reason)
                self._set_aside(step)
                continue
            return restored.state, restored.content["extras"]
        if steps:
            raise UserError(
                f"none of the checkpoints in {self._folder} can be read; "
                "start again with another --workdir"
            )
        return None

    def wait(self) -> None:
        """Returns when everything saved is on the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and ends the background threads."""
        self._manager.close()

    def _set_aside(self, step: int) -> None:
        if jax.process_index() == 0:
            (self._folder / str(step)).rename(self._folder / f"damaged-{step}")
        self._manager.reload()


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
