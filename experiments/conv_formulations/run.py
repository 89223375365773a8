"""Times every formulation of the convolution at every layer shape of VGG-16 on a CPU.

    python -m experiments.conv_formulations.run [--preset=quick|full] [--out=DIR]

Writes `layers.csv`, a line a layer, direction (the forward pass, the gradient with respect to the
images, that with respect to the kernel) and formulation; `table.md`, what the chosen one and the
others reach of a matrix product's speed; and `machine.json`.
"""

import csv
import os
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from vgg_jax.cli import CommandParser, run_command
from vgg_jax.ops import conv
from vgg_jax.runs.directory import write_json
from vgg_jax.runs.record import environment, processor

# Image size and batch size.
WORKLOADS = {"quick": [(32, 16)], "full": [(32, 128), (224, 8)]}
STAGES = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
FORMULATIONS = [conv.library, conv.taps, conv.positions, conv.patches, conv.winograd]
DIRECTIONS = ["forward", "images", "kernel"]
ROUNDS = 5
PRODUCT = 1024  # rows, columns and depth of the matrix product that is the yardstick
COLUMNS = ["image_size", "batch_size", "map", "channels_in", "channels_out", "direction"]


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = CommandParser("experiments.conv_formulations.run", __doc__)
    parser.add_argument("--preset", choices=[*WORKLOADS], default="quick")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args(argv)
    rows = []
    for image_size, batch_size in WORKLOADS[arguments.preset]:
        for shape in layer_shapes(image_size, batch_size):
            for direction in DIRECTIONS:
                row = measure(shape, direction)
                rows.append({"image_size": image_size, "batch_size": batch_size} | row)
                print(table_line(rows[-1]), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_csv(rows, arguments.out / "layers.csv")
    head = ["map", "channels", "direction", "chosen", "of the product"]
    head += [formulation.__name__ for formulation in FORMULATIONS]
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *map(table_line, rows)]
    (arguments.out / "table.md").write_text("\n".join(lines) + "\n")
    write_json(
        arguments.out / "machine.json",
        {"cpu": processor(), "cores": os.cpu_count()} | environment(),
    )
    return 0


def layer_shapes(image_size: int, batch_size: int) -> list[tuple[int, int, int, int]]:
    """The distinct (batch, map, C_in, C_out) of VGG-16's convolutions, in order."""
    shapes, channels = [], 3
    for stage, (features, layers) in enumerate(STAGES):
        for _ in range(layers):
            shapes.append((batch_size, image_size >> stage, channels, features))
            channels = features
    return list(dict.fromkeys(shapes))


def measure(shape: tuple[int, int, int, int], direction: str) -> dict:
    """Times the formulations of one layer and a matrix product in turn; the best of the rounds.

    Other work on the machine only ever lengthens a time, so the shortest is the one to compare.
    """
    n, size, inputs, outputs = shape
    keys = jax.random.split(jax.random.key(0), 4)
    images = jax.random.normal(keys[0], (n, size, size, inputs))
    kernel = jax.random.normal(keys[1], (3, 3, inputs, outputs))
    cotangent = jax.random.normal(keys[2], (n, size, size, outputs))
    matrix = jax.random.normal(keys[3], (PRODUCT, PRODUCT))
    operations: dict[str, Callable[[], jax.Array]] = {
        formulation.__name__: compile_direction(formulation, direction, images, kernel, cotangent)
        for formulation in FORMULATIONS
        # The library needs seconds for maps smaller than its kernel; each position of a large map
        # would be an operation of its own.
        if not (size <= 2 and formulation is conv.library)
        and not (size > 8 and formulation is conv.positions)
    }
    product = jax.jit(jnp.dot)
    operations["product"] = lambda: product(matrix, matrix)
    seconds = {name: float("inf") for name in operations}
    for name, operation in ROUNDS * list(operations.items()):
        start = time.perf_counter()
        operation().block_until_ready()
        seconds[name] = min(seconds[name], time.perf_counter() - start)
    choose = conv.along_kernel if direction == "kernel" else conv.along_images
    flops = 2 * kernel.size * n * size * size
    rates = {name: flops / seconds[name] / 1e9 for name in operations if name != "product"}
    return {
        "map": size,
        "channels_in": inputs,
        "channels_out": outputs,
        "direction": direction,
        "chosen": choose(images.shape, kernel.shape).__name__,
        "product_gflops": 2 * PRODUCT**3 / seconds["product"] / 1e9,
    } | rates


def compile_direction(
    formulation: conv.Formulation,
    direction: str,
    images: jax.Array,
    kernel: jax.Array,
    cotangent: jax.Array,
) -> Callable[[], jax.Array]:
    """Returns a call that runs one direction of a formulation."""
    if direction == "forward":
        compiled = jax.jit(formulation).lower(images, kernel).compile()
        return lambda: compiled(images, kernel)

    def gradient(images: jax.Array, kernel: jax.Array, cotangent: jax.Array) -> jax.Array:
        if direction == "images":
            return jax.linear_transpose(lambda x: formulation(x, kernel), images)(cotangent)[0]
        return jax.linear_transpose(lambda k: formulation(images, k), kernel)(cotangent)[0]

    compiled = jax.jit(gradient).lower(images, kernel, cotangent).compile()
    return lambda: compiled(images, kernel, cotangent)


def table_line(row: dict) -> str:
    """A line of the table: effective GFLOP/s, those of the full 3x3 kernel at every position."""
    rates = [row.get(formulation.__name__) for formulation in FORMULATIONS]
    cells = [
        f"{row['batch_size']}x{row['map']}x{row['map']}",
        f"{row['channels_in']} to {row['channels_out']}",
        row["direction"],
        row["chosen"],
        f"{row[row['chosen']] / row['product_gflops']:.0%}",
        *("" if rate is None else f"{rate:.0f}" for rate in rates),
    ]
    return f"| {' | '.join(cells)} |"


def write_csv(rows: list[dict], path: Path) -> None:
    """Writes a line a layer, direction and formulation."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "formulation", "chosen", "gflops", "fraction_of_product"])
        for row in rows:
            for formulation in FORMULATIONS:
                name = formulation.__name__
                if name in row:
                    rate, fraction = row[name], row[name] / row["product_gflops"]
                    values = [name, name == row["chosen"], f"{rate:.1f}", f"{fraction:.3f}"]
                    writer.writerow([*(row[column] for column in COLUMNS), *values])


if __name__ == "__main__":
    run_command(main)
