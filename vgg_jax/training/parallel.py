"""The pure steps on many devices: `jit` over a mesh, or `pmap`.

Both take the same state and the same global batch and give the same results. Nobody else knows
which of the two it is.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vgg_jax.errors import UserError, unknown_name
from vgg_jax.models import VGG
from vgg_jax.training.state import TrainState
from vgg_jax.training.steps import Batch, EvalStep, Metrics, TrainStep, scan_steps
from vgg_jax.xla import DRAWING, NETWORK, on_cpu

MODES = ("jit", "pmap")


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
      axis_name: the axis that the steps are mapped over, or None.
    """

    devices: int
    axis_name: str | None = None

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
        self._head = self._sharding("data") if model > 1 else None

    def adapted(self, model: VGG) -> VGG:
        """Returns the network as the steps run it: with what it has to know of the devices."""
        return model.clone(axis_name=self.axis_name, head_sharding=self._head)

    def init(self, init_fn: Callable[[], TrainState]) -> TrainState:
        """Returns the state that `init_fn` makes, placed on the devices."""
        init_fn = jax.jit(init_fn, inline=True)  # traced once, for the shapes and for the program
        shardings = self._shardings(jax.eval_shape(init_fn))
        options = on_cpu(DRAWING, self._platform)
        return jax.jit(init_fn, out_shardings=shardings, compiler_options=options)()

    def compile_train(
        self, train: TrainStep, *, several: bool = False
    ) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
        """Returns the step compiled, or the program of several steps (`scan_steps`).

        Either consumes (donates) its state.
        """
        step = self._constrained(train)
        return jax.jit(
            scan_steps(step) if several else step,
            donate_argnums=0,
            compiler_options=on_cpu(NETWORK, self._platform),
        )

    def compile_eval(self, evaluate: EvalStep) -> EvalStep:
        """Returns the evaluation step compiled."""
        return jax.jit(evaluate, compiler_options=on_cpu(NETWORK, self._platform))

    def put(self, batch: dict[str, np.ndarray]) -> Batch:
        """Returns the global batch, of which `batch` is this process's part."""
        return self._global(batch, self._batch)

    def put_indices(self, indices: np.ndarray) -> jax.Array:
        """Returns the global indices (k, B), of which `indices` is this process's part."""
        return self._global(indices, self._sharding(None, ("data", "model")))

    def replicate(self, data: dict[str, np.ndarray]) -> Batch:
        """Returns arrays of which every device holds a copy."""
        return self._global(data, self._sharding())

    def abstract(self, init_fn: Callable[[], TrainState]) -> TrainState:
        """Returns shapes, dtypes and shardings of the state, for a restore."""
        shapes = jax.eval_shape(init_fn)
        return jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
            shapes,
            self._shardings(shapes),
        )

    def _constrained(self, train: TrainStep) -> TrainStep:
        """Returns a step whose state leaves as it came.

        Otherwise the compiler may choose, and the second step would be compiled anew.
        """

        def constrained(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
            new, metrics = train(state, batch)
            return jax.lax.with_sharding_constraint(new, self._shardings(new)), metrics

        return constrained

    def _global(self, tree: Any, sharding: NamedSharding) -> Any:
        place = functools.partial(jax.make_array_from_process_local_data, sharding)
        return jax.tree.map(place, tree)

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
    """The same by `pmap`: every device gets the whole state and its own part of the batch."""

    axis_name = "batch"

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        super().__init__(devices)
        self._mesh = Mesh(self._mesh.devices.ravel(), (self.axis_name,))  # as `pmap` makes it
        self._batch = self._sharding(self.axis_name)

    def compile_train(
        self, train: TrainStep, *, several: bool = False
    ) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
        if several:
            raise UserError(
                "parallel.mode=pmap makes one step per dispatch: "
                "set parallel.steps_per_dispatch=1, or parallel.mode=jit"
            )
        return self._mapped(train, donate_argnums=0)

    def compile_eval(self, evaluate: EvalStep) -> EvalStep:
        return self._mapped(evaluate)

    def _mapped(self, step: Callable[[TrainState, Batch], Any], **options: Any) -> Any:
        mapped = jax.pmap(
            step,
            self.axis_name,
            in_axes=(None, 0),
            out_axes=None,  # the devices agree on what they return: it is averaged over them
            devices=list(self._mesh.devices),
            **options,
        )

        @functools.partial(jax.jit, out_shardings=self._batch)
        def parts(batch: Batch) -> Batch:
            return jax.tree.map(lambda x: x.reshape(self.devices, -1, *x.shape[1:]), batch)

        def over_processes(leaf: jax.Array) -> jax.Array:  # `pmap` returns what this process holds
            copies = [shard.data for shard in leaf.addressable_shards]
            return jax.make_array_from_single_device_arrays(leaf.shape, self._sharding(), copies)

        def run(state: TrainState, batch: Batch) -> Any:
            result = mapped(state, parts(batch))
            return result if jax.process_count() == 1 else jax.tree.map(over_processes, result)

        return run

    def _shardings(self, state: TrainState) -> TrainState:
        return jax.tree.map(lambda _: self._sharding(), state)


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
