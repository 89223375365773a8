"""What the library's convolution costs in the body of a loop, and in `ops/canonical.py`'s form."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax

from vgg_jax.ops import conv
from vgg_jax.runs.tables import markdown

ITERATIONS = 4
COLUMNS = ("batch_size", "map", "channels", "direction", "axes", "milliseconds", "in_a_loop")
FORMS: dict[str, conv.Formulation] = {
    "JAX's": lambda images, kernel: lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ),
    "canonical": conv.library,
}

Row = dict[str, Any]


def measure(shapes: Sequence[tuple[int, int, int]], rounds: int) -> list[Row]:
    """Times both gradients of a convolution by itself and in a loop; the fastest round counts."""
    rows = []
    for n, size, channels in shapes:
        images = jax.random.normal(jax.random.key(0), (n, size, size, channels))
        kernel = jax.random.normal(jax.random.key(1), (3, 3, channels, channels)) / channels
        for direction in ("images", "kernel"):
            calls = {}
            for name, form in FORMS.items():
                alone, looped = programs(form, direction)
                calls[name, "milliseconds"] = alone, 1
                calls[name, "in_a_loop"] = looped, ITERATIONS
            found = {key: float("inf") for key in calls}
            for key, (call, iterations) in (1 + rounds) * list(calls.items()):
                start = time.perf_counter()
                jax.block_until_ready(call(images, kernel))
                found[key] = min(found[key], (time.perf_counter() - start) * 1e3 / iterations)
            cell = {"batch_size": n, "map": size, "channels": channels, "direction": direction}
            rows += [
                cell
                | {"axes": name}
                | {column: found[name, column] for column in ("milliseconds", "in_a_loop")}
                for name in FORMS
            ]
    return rows


def programs(form: conv.Formulation, direction: str) -> tuple[Callable, Callable]:
    """Compiles a gradient by itself, and one that each iteration of a loop takes of the last."""

    def gradient(images: jax.Array, kernel: jax.Array) -> jax.Array:
        if direction == "images":
            return jax.linear_transpose(lambda x: form(x, kernel), images)(images)[0]
        return jax.linear_transpose(lambda k: form(images, k), kernel)(images)[0]

    def looped(images: jax.Array, kernel: jax.Array) -> jax.Array:
        if direction == "images":
            return lax.fori_loop(0, ITERATIONS, lambda _, x: gradient(x, kernel), images)
        return lax.fori_loop(0, ITERATIONS, lambda _, k: gradient(images + k.mean(), k), kernel)

    return jax.jit(gradient), jax.jit(looped)


def table(rows: list[Row]) -> str:
    """Returns a line per gradient: milliseconds of both forms, by themselves and in a loop."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        size = row["map"]
        layer = f"{row['batch_size']}x{size}x{size}", row["channels"], row["direction"]
        times = (f"{float(row[column]):.3g}" for column in ("milliseconds", "in_a_loop"))
        lines.setdefault(layer, []).extend(times)
    head = ["map", "channels", "gradient"]
    head += [f"{name}, {where}" for name in FORMS for where in ("alone", "in a loop")]
    return markdown(head, [[*layer, *times] for layer, times in lines.items()])
