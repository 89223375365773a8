"""The pure steps on many devices: `jit` over a mesh, or `pmap`.

Both run the same functions on the same global batch. `jit` is the default; `pmap` is kept thin.
"""

import abc
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

PyTree = Any
MODES = ("jit", "pmap")
PMAP_AXIS = "batch"


# The fully connected layers hold 123 of VGG-16's 138 million parameters and little of its
# arithmetic: they are what is worth splitting over devices (Krizhevsky 2014, arXiv 1404.5997).
_SPLIT_OVER_MODEL = re.compile(r"fc\d+/(kernel|bias)$")


class Parallel(abc.ABC):
    """Runs a state through steps on all devices.

    Attributes:
      devices: global number of devices.
      data_parallel: number of parts that a global batch is cut into.
    """

    devices: int
    data_parallel: int

    @abc.abstractmethod
    def init(self, init_fn: Callable[[], TrainState]) -> TrainState:
        """Returns the state that `init_fn` makes, placed on the devices."""

    @abc.abstractmethod
    def compile_steps(self, train: TrainStep, evaluate: EvalStep) -> tuple[TrainStep, EvalStep]:
        """Returns both steps compiled; the train step consumes (donates) its state."""

    @abc.abstractmethod
    def compile_dispatch(self, train: TrainStep, data: dict[str, np.ndarray]) -> Dispatch:
        """Returns several steps at a time over a training set that is copied to every device.

        Args:
          train: pure; the compiled dispatch consumes (donates) its state.
          data: {"image", "label"} of all N examples.

        Raises:
          UserError: this way of running cannot.
        """

    @abc.abstractmethod
    def put(self, batch: dict[str, np.ndarray]) -> Batch:
        """Returns this process's part of a global batch, on its devices, for the steps."""

    @abc.abstractmethod
    def put_unmapped(self, batch: dict[str, np.ndarray]) -> Batch:
        """Returns the same for a jitted function over a `storable` state."""

    @abc.abstractmethod
    def abstract(self, init_fn: Callable[[], TrainState]) -> TrainState:
        """Returns shapes, dtypes and shardings of what `storable` gives, for a restore."""

    @abc.abstractmethod
    def storable(self, state: TrainState) -> TrainState:
        """Returns the state as a checkpoint stores it: no device axis."""

    @abc.abstractmethod
    def place(self, state: TrainState) -> TrainState:
        """Inverse of `storable`."""


def make_parallel(
    mode: str, model: int = 1, devices: Sequence[jax.Device] | None = None
) -> Parallel:
    """Returns the way to run on many devices.

    Args:
      mode: "jit" or "pmap".
      model: devices that share the fully connected layers, 1 for none ("jit" only).
      devices: those to use; None for every device of every process.

    Raises:
      UserError: for an unknown mode or a `model` that does not divide the number of devices.
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
    if mode == "pmap":
        if model != 1:
            raise UserError("parallel.mode=pmap cannot split layers; set parallel.model=1")
        return _Pmap(devices)
    return _Jit(model, devices)


class _Jit(Parallel):
    def __init__(self, model: int, devices: Sequence[jax.Device]) -> None:
        self.devices = len(devices)
        self.data_parallel = self.devices // model
        self._mesh: Mesh = jax.make_mesh(
            (self.data_parallel, model),
            ("data", "model"),
            axis_types=(AxisType.Auto,) * 2,
            devices=devices,
        )
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self._batch = NamedSharding(self._mesh, PartitionSpec("data"))
        self._indices = NamedSharding(self._mesh, PartitionSpec(None, "data"))

    def _shardings(self, state: TrainState) -> TrainState:
        model = self._mesh.shape["model"]

        def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            if model > 1 and _SPLIT_OVER_MODEL.search(name) and leaf.shape[-1] % model == 0:
                spec = PartitionSpec(*(None,) * (leaf.ndim - 1), "model")
                return NamedSharding(self._mesh, spec)
            return self._replicated

        return jax.tree_util.tree_map_with_path(sharding, state)

    def init(self, init_fn: Callable[[], TrainState]) -> TrainState:
        shardings = self._shardings(jax.eval_shape(init_fn))
        options = _init_options(self._mesh.devices.flat[0])
        return jax.jit(init_fn, out_shardings=shardings, compiler_options=options)()

    def compile_steps(self, train: TrainStep, evaluate: EvalStep) -> tuple[TrainStep, EvalStep]:
        return jax.jit(self._constrained(train), donate_argnums=0), jax.jit(evaluate)

    def _constrained(self, train: TrainStep) -> TrainStep:
        """Returns a step whose state leaves as it came.

        Otherwise the compiler may choose, and the second step would be compiled anew.
        """

        def constrained(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            new, metrics = train(state, batch)
            return jax.lax.with_sharding_constraint(new, self._shardings(new)), metrics

        return constrained

    def compile_dispatch(self, train: TrainStep, data: dict[str, np.ndarray]) -> Dispatch:
        steps = jax.jit(scan_steps(self._constrained(train)), donate_argnums=0)
        resident = {
            name: jax.make_array_from_process_local_data(self._replicated, array)
            for name, array in data.items()
        }

        def dispatch(state: TrainState, indices: np.ndarray) -> tuple[TrainState, Metrics]:
            chosen = jax.make_array_from_process_local_data(self._indices, indices)
            return steps(state, resident, chosen)

        return dispatch

    def put(self, batch: dict[str, np.ndarray]) -> Batch:
        return {
            name: jax.make_array_from_process_local_data(self._batch, array)
            for name, array in batch.items()
        }

    put_unmapped = put

    def abstract(self, init_fn: Callable[[], TrainState]) -> TrainState:
        shapes = jax.eval_shape(init_fn)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self._shardings(shapes),
        )

    def storable(self, state: TrainState) -> TrainState:
        return state

    def place(self, state: TrainState) -> TrainState:
        return state


class _Pmap(Parallel):
    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self.devices = len(devices)
        self.data_parallel = self.devices
        self._all = devices
        self._local = [d for d in devices if d.process_index == jax.process_index()]

    def init(self, init_fn: Callable[[], TrainState]) -> TrainState:
        options = _init_options(self._local[0])
        return self.place(jax.jit(init_fn, compiler_options=options)())

    def compile_steps(self, train: TrainStep, evaluate: EvalStep) -> tuple[TrainStep, EvalStep]:
        train_step = jax.pmap(train, PMAP_AXIS, donate_argnums=0, devices=self._all)
        eval_step = jax.pmap(evaluate, PMAP_AXIS, devices=self._all)

        def first(tree: PyTree) -> PyTree:  # every device holds the same averages
            return jax.tree.map(lambda x: x[0], tree)

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

    def put_unmapped(self, batch: dict[str, np.ndarray]) -> Batch:
        return jax.device_put(batch, self._local[0])

    def abstract(self, init_fn: Callable[[], TrainState]) -> TrainState:
        here = jax.sharding.SingleDeviceSharding(self._local[0])
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here),
            jax.eval_shape(init_fn),
        )

    def storable(self, state: TrainState) -> TrainState:
        return jax.tree.map(lambda x: x[0], state)

    def place(self, state: TrainState) -> TrainState:
        copies = jax.pmap(lambda _, tree: tree, in_axes=(0, None), devices=self._local)
        return copies(np.arange(len(self._local)), state)


def _init_options(device: jax.Device) -> dict[str, int] | None:
    """Drawing the parameters happens once: a CPU compiles it in a third of the time this way."""
    return {"xla_backend_optimization_level": 1} if device.platform == "cpu" else None
