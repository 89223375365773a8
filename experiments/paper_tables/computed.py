"""Tables 1 and 2, computed from the networks that this project builds."""

import functools
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from experiments.paper_tables.tables import Table
from vgg_jax.models import VGG

Computed = dict[tuple[tuple[str, ...], str], str]
IMAGE_SIZE = 224


def configurations(table: Table) -> Computed:
    """Returns the cells of Table 1 from shapes of parameters and names of endpoints."""
    cells: Computed = {}
    for net in table.columns:
        kernels, endpoints = _layers(net)
        for stage in range(1, 6):
            convs = [(n, k) for n, k in kernels.items() if n.startswith(f"conv{stage}_")]
            cells[(f"stage {stage}",), net] = ", ".join(_stage(convs, endpoints))
        widths = [str(kernels[f"fc{i}"][-1]) for i in (6, 7, 8)]
        cells[("fully connected",), net] = ", ".join(widths)
        cells[("weight layers",), net] = str(len(kernels))
    return cells


def parameters(table: Table) -> Computed:
    """Returns the cells of Table 2."""
    (column,) = table.columns
    cells = {}
    for keys, _ in table.rows:
        _, variables = _shapes(keys[0])
        count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
        cells[keys, column] = f"{count / 1e6:.0f} ({count:,})"
    return cells


def _stage(convs: list[tuple[str, tuple[int, ...]]], endpoints: list[str]) -> Iterator[str]:
    """Yields the layers of a stage in the notation of the table, equal ones counted."""
    for (size, channels), same in itertools.groupby(convs, lambda item: (item[1][0], item[1][3])):
        names = [name for name, _ in same]
        yield f"{size}-{channels}" + (f" x{len(names)}" if len(names) > 1 else "")
        if any(name.replace("conv", "lrn") in endpoints for name in names):
            yield "LRN"


def _layers(net: str) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Returns the shape of every kernel, in the order of the layers, and all endpoints."""
    (_, endpoints), variables = _shapes(net)
    params = variables["params"]
    model = VGG(variant=net)
    return {name: params[name]["kernel"].shape for name in model.layer_names}, list(endpoints)


@functools.cache
def _shapes(net: str) -> tuple:
    """Returns ((logits, endpoints), variables) as shapes; nothing is computed."""

    def init() -> tuple:
        images = jnp.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3))
        return VGG(variant=net).init_with_output(jax.random.key(0), images)

    return jax.eval_shape(init)
