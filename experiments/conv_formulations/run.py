"""Times every formulation of the convolution at every layer shape of VGG-16 on a CPU.

    python -m experiments.conv_formulations.run [layers] [--preset=smallest|quick|full] [--out=DIR]
    python -m experiments.conv_formulations.run loops [--preset=smallest|full] [--out=DIR]
    python -m experiments.conv_formulations.run [layers|loops] --redraw [--out=DIR]

Writes `layers.csv`, a line per layer, direction (forward pass, gradient with respect to the images,
gradient with respect to the kernel) and formulation; `table.md`, the speed of every formulation and
that of the chosen one as a share of a matrix product's; and `record.json`. `--redraw` only writes
the table again. `smallest` takes seconds and tests the code: its shapes are too small to compare.
`loops` times the library's gradients by themselves and in the body of a loop, and writes
`loops.csv`, `table.md` and `record.json` into the folder `loops`.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from experiments.conv_formulations import loops
from vgg_jax.cli import run_command
from vgg_jax.ops import conv
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import markdown, markdown_line, read_table, table_rows, write_table


@dataclasses.dataclass(frozen=True)
class Preset:
    """Which layers to time.

    Attributes:
      workloads: (image size, batch size) of each network.
      stages: (channels, layers) of each stage; a max-pool halves the map between two stages.
      loops: (batch size, map, channels) that are timed in the body of a loop.
      rounds: how often everything is timed.
    """

    workloads: Sequence[tuple[int, int]]
    stages: Sequence[tuple[int, int]] = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    loops: Sequence[tuple[int, int, int]] = (
        (256, 32, 8),
        (256, 16, 16),
        (64, 16, 64),
        (64, 8, 256),
    )
    rounds: int = 5


PRESETS = {
    "smallest": Preset([(4, 2)], [(4, 1)], [(2, 4, 3)], rounds=1),
    "quick": Preset([(32, 16)]),
    "full": Preset([(32, 128), (224, 8)]),
}
FORMULATIONS = [conv.library, conv.taps, conv.positions, conv.patches, conv.winograd]
DIRECTIONS = ["forward", "images", "kernel"]
PRODUCT = 1024  # rows, columns and depth of the matrix product that speeds are compared with
LAYER = ["image_size", "batch_size", "map", "channels_in", "channels_out", "direction"]
COLUMNS = [*LAYER, "formulation", "chosen", "gflops", "fraction_of_product"]
HEAD = ["map", "channels", "direction", "chosen", "of the product"]
HEAD += [formulation.__name__ for formulation in FORMULATIONS]

Row = dict[str, Any]


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS])
    parser.add_argument("part", nargs="?", choices=PARTS, default="layers")
    arguments = parser.parse_args(argv)
    part = PARTS[arguments.part]
    out = arguments.out / part.folder
    path = out / f"{arguments.part}.csv"
    if not arguments.redraw:
        out.mkdir(parents=True, exist_ok=True)
        record = Record(out, parser.module, argv)
        write_table(path, part.measure(PRESETS[arguments.preset]), part.columns)
        record.write()
    (out / "table.md").write_text(part.table(table_rows(read_table(stored(path)))))
    return 0


def measure_layers(preset: Preset) -> list[Row]:
    """Times every formulation at every layer; prints the table's lines on the way."""
    rows: list[Row] = []
    for image_size, batch_size in preset.workloads:
        for shape in layer_shapes(image_size, batch_size, preset.stages):
            for direction in DIRECTIONS:
                measured = measure(shape, direction, preset.rounds)
                rows += [{"image_size": image_size} | row for row in measured]
                print(markdown_line(table_line(measured)), flush=True)
    return rows


def layers_table(rows: list[Row]) -> str:
    """Returns the table of all layers."""
    layers: dict[tuple, list[Row]] = {}
    for row in rows:
        layers.setdefault(tuple(row[name] for name in LAYER), []).append(row)
    return markdown(HEAD, map(table_line, layers.values()))


def layer_shapes(
    image_size: int, batch_size: int, stages: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int, int]]:
    """Returns the distinct (batch, map, C_in, C_out) of a network's convolutions, in order."""
    shapes, channels = [], 3
    for stage, (features, layers) in enumerate(stages):
        for _ in range(layers):
            shapes.append((batch_size, image_size >> stage, channels, features))
            channels = features
    return list(dict.fromkeys(shapes))


def measure(shape: tuple[int, int, int, int], direction: str, rounds: int) -> list[Row]:
    """Times the formulations of one layer and a matrix product in turn; returns a row for each.

    The fastest round counts: other work on the machine can only make a round slower.
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
    for name, operation in rounds * list(operations.items()):
        start = time.perf_counter()
        operation().block_until_ready()
        seconds[name] = min(seconds[name], time.perf_counter() - start)
    choose = conv.along_kernel if direction == "kernel" else conv.along_images
    chosen = choose(images.shape, kernel.shape).__name__
    product_rate = 2 * PRODUCT**3 / seconds.pop("product") / 1e9
    rates = {name: 2 * kernel.size * n * size * size / took / 1e9 for name, took in seconds.items()}
    return [
        {
            "batch_size": n,
            "map": size,
            "channels_in": inputs,
            "channels_out": outputs,
            "direction": direction,
            "formulation": name,
            "chosen": name == chosen,
            "gflops": rate,
            "fraction_of_product": rate / product_rate,
        }
        for name, rate in rates.items()
    ]


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


def table_line(rows: list[Row]) -> list[str]:
    """Returns a line of the table: effective GFLOP/s of the formulations of one layer.

    They count the full 3x3 kernel at every position.
    """
    layer = rows[0]
    rates = {row["formulation"]: float(row["gflops"]) for row in rows}
    (chosen,) = (row for row in rows if str(row["chosen"]) == "True")
    names = [formulation.__name__ for formulation in FORMULATIONS]
    return [
        f"{layer['batch_size']}x{layer['map']}x{layer['map']}",
        f"{layer['channels_in']} to {layer['channels_out']}",
        layer["direction"],
        chosen["formulation"],
        f"{float(chosen['fraction_of_product']):.0%}",
        *(f"{rates[name]:.0f}" if name in rates else "" for name in names),
    ]


class Part(NamedTuple):
    """What is measured: how, the columns stored, the table of them, and the folder for both."""

    measure: Callable[[Preset], list[Row]]
    columns: Sequence[str]
    table: Callable[[list[Row]], str]
    folder: str


PARTS = {
    "layers": Part(measure_layers, COLUMNS, layers_table, ""),
    "loops": Part(
        lambda preset: loops.measure(preset.loops, preset.rounds),
        loops.COLUMNS,
        loops.table,
        "loops",
    ),
}


if __name__ == "__main__":
    run_command(main)
