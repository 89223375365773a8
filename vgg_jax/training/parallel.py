"""The pure steps on many devices: `jit` over a mesh, or `pmap`.

Both run the same functions on the same global batch. `jit` is the default; `pmap` is kept thin.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vgg_jax.errors import UserError, unknown_name
from vgg_jax.training.resident import Dispatch, scan_steps
from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import Batch, EvalStep, Metrics, TrainStep
from vgg_jax.xla import DRAWING, NETWORK, on_cpu

PyTree = Any
MODES = ("jit", "pmap")
PMAP_AXIS = "batch"


# The fully connected layers hold 123 of VGG-16's 138 million parameters and little of its
# arithmetic: they are what is worth splitting over devices (Krizhevsky 2014, arXiv 1404.5997).
_SPLIT_OVER_MODEL = re.compile(r"fc\d+/(kernel|bias)$")


class Parallel:
    """Runs a state through steps on all devices, by `jit` over a mesh ("data", "model").

    Every device works on its own part of the batch up to the head. There the devices that share
    the fully connected layers ("model") gather each other's features, and each computes its part of
    every layer's outputs.

    Attributes:
      devices: global number of devices, and of parts that a global batch is cut into.
      head_sharding: where the input of the head has to be (`VGG.head_sharding`).
    """

    devices: int
    head_sharding: NamedSharding | None

    def __init__(
        self, devices: Sequence[jax.Device], model: int = 1, shard_optimizer: bool = False
    ) -> None:
        """Lays out the devices; see `make_parallel`."""
        self.devices = len(devices)
        # By process, so that a process's part of the batch is one slice of it.
        ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
        self._mesh = Mesh(
            np.asarray(ordered).reshape(-1, model),
            ("data", "model"),
            axis_types=(AxisType.Auto,) * 2,
        )
        self._platform = ordered[0].platform
        self._shard_optimizer = shard_optimizer
        self._batch = self._sharding(("data", "model"))
        self.head_sharding = self._sharding("data") if model > 1 else None

    def init(self, init_fn: Callable[[], TrainState]) -> TrainState:
        """Returns the state that `init_fn` makes, placed on the devices."""
        shardings = self._shardings(jax.eval_shape(init_fn))
        options = on_cpu(DRAWING, self._platform)
        return jax.jit(init_fn, out_shardings=shardings, compiler_options=options)()

    def compile_steps(self, train: TrainStep, evaluate: EvalStep) -> tuple[TrainStep, EvalStep]:
        """Returns both steps compiled; the train step consumes (donates) its state."""
        options = on_cpu(NETWORK, self._platform)
        return (
            jax.jit(self._constrained(train), donate_argnums=0, compiler_options=options),
            jax.jit(evaluate, compiler_options=options),
        )

    def compile_dispatch(self, train: TrainStep, data: dict[str, np.ndarray]) -> Dispatch:
        """Returns several steps at a time over a training set that is copied to every device.

        Args:
          train: pure; the compiled dispatch consumes (donates) its state.
          data: {"image", "label"} of all N examples.

        Raises:
          UserError: this way of running cannot.
        """
        steps = jax.jit(
            scan_steps(self._constrained(train)),
            donate_argnums=0,
            compiler_options=on_cpu(NETWORK, self._platform),
        )
        resident = {
            name: jax.make_array_from_process_local_data(self._sharding(), array)
            for name, array in data.items()
        }
        indices_sharding = self._sharding(None, ("data", "model"))

        def dispatch(state: TrainState, indices: np.ndarray) -> tuple[TrainState, Metrics]:
            chosen = jax.make_array_from_process_local_data(indices_sharding, indices)
            return steps(state, resident, chosen)

        return dispatch

    def put(self, batch: dict[str, np.ndarray]) -> Batch:
        """Returns the global batch for the steps, of which `batch` is this process's part."""
        return self.put_unmapped(batch)

    def put_unmapped(self, batch: dict[str, np.ndarray]) -> Batch:
        """Returns the same for a jitted function over a `storable` state."""
        return {
            name: jax.make_array_from_process_local_data(self._batch, array)
            for name, array in batch.items()
        }

    def abstract(self, init_fn: Callable[[], TrainState]) -> TrainState:
        """Returns shapes, dtypes and shardings of what `storable` gives, for a restore."""
        shapes = jax.eval_shape(init_fn)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self._shardings(shapes),
        )

    def storable(self, state: TrainState) -> TrainState:
        """Returns the state as a checkpoint stores it: global arrays, no device axis."""
        return state

    def place(self, state: TrainState) -> TrainState:
        """Inverse of `storable`."""
        return state

    def _constrained(self, train: TrainStep) -> TrainStep:
        """Returns a step whose state leaves as it came.

        Otherwise the compiler may choose, and the second step would be compiled anew.
        """

        def constrained(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            new, metrics = train(state, batch)
            return jax.lax.with_sharding_constraint(new, self._shardings(new)), metrics

        return constrained

    def _sharding(self, *axes: str | tuple[str, ...] | None) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec(*axes))

    def _shardings(self, state: TrainState) -> TrainState:
        data, model = self._mesh.devices.shape

        def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            axes: list[str | None] = [None] * leaf.ndim
            if model > 1 and _SPLIT_OVER_MODEL.search(name) and leaf.shape[-1] % model == 0:
                axes[-1] = "model"
            if self._shard_optimizer and name.startswith("opt_state/"):
                free = [i for i, n in enumerate(leaf.shape) if axes[i] is None and n % data == 0]
                if free:
                    axes[max(free, key=lambda i: leaf.shape[i])] = "data"
            return self._sharding(*axes)

        return jax.tree_util.tree_map_with_path(sharding, state)


class _Pmap(Parallel):
    """The same by `pmap`: every device holds a copy of the state, stacked along a first axis."""

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        super().__init__(devices)
        self._all = list(self._mesh.devices.flat)
        self._local = [d for d in self._all if d.process_index == jax.process_index()]

    def init(self, init_fn: Callable[[], TrainState]) -> TrainState:
        return self.place(super().init(init_fn))

    def compile_steps(self, train: TrainStep, evaluate: EvalStep) -> tuple[TrainStep, EvalStep]:
        train_step = jax.pmap(train, PMAP_AXIS, donate_argnums=0, devices=self._all)
        eval_step = jax.pmap(evaluate, PMAP_AXIS, devices=self._all)

        def first(tree: PyTree) -> PyTree:  # every device holds the same averages
            return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)

        def run_train(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            state, metrics = train_step(state, batch)
            return state, first(metrics)

        return run_train, lambda state, batch: first(eval_step(state, batch))

    def compile_dispatch(self, train: TrainStep, data: dict[str, np.ndarray]) -> Dispatch:
        raise UserError(
            "parallel.mode=pmap makes one step a dispatch: "
            "set parallel.steps_per_dispatch=1, or parallel.mode=jit"
        )

    def put(self, batch: dict[str, np.ndarray]) -> Batch:
        here = len(self._local)
        return jax.tree.map(lambda array: array.reshape(here, -1, *array.shape[1:]), batch)

    def storable(self, state: TrainState) -> TrainState:
        def without_device_axis(leaf: jax.Array) -> jax.Array:
            copies = [shard.data[0] for shard in leaf.addressable_shards]
            return jax.make_array_from_single_device_arrays(
                leaf.shape[1:], self._sharding(), copies
            )

        return jax.tree.map(without_device_axis, state)

    def place(self, state: TrainState) -> TrainState:
        copies = jax.pmap(lambda _, tree: tree, in_axes=(0, None), devices=self._local)
        here = jax.tree.map(lambda leaf: leaf.addressable_data(0), state)
        return copies(np.arange(len(self._local)), here)


def make_parallel(
    mode: str,
    model: int = 1,
    *,
    shard_optimizer: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> Parallel:
    """Returns the way to run on many devices.

    Args:
      mode: "jit" or "pmap".
      model: devices that share the fully connected layers, 1 for none ("jit" only).
      shard_optimizer: each device keeps and updates its part of the optimiser's state alone, the
        first stage of ZeRO (Rajbhandari et al. 2020, arXiv 1910.02054) ("jit" only).
      devices: those to use; None for every device of every process.

    Raises:
      UserError: for an unknown mode, a `model` that does not divide the number of devices, or what
        "pmap" cannot do.
    """
    if mode not in MODES:
        raise unknown_name("parallel.mode", mode, MODES)
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    if model < 1 or count % model:
        divisors = [k for k in range(1, count + 1) if count % k == 0]
        raise UserError(
            f"parallel.model={model} does not divide {count} devices; use one of {divisors}"
        )
    if mode == "jit":
        return Parallel(devices, model, shard_optimizer)
    if model != 1:
        raise UserError("parallel.mode=pmap cannot split layers; set parallel.model=1")
    if shard_optimizer:
        raise UserError(
            "parallel.mode=pmap cannot spread the optimiser's state; "
            "set parallel.shard_optimizer=false"
        )
    return _Pmap(devices)
