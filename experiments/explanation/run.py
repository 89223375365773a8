"""Four explanations of ten photos, and whether they depend on what the network learnt.

    python -m experiments.explanation.run --weights=vgg19.safetensors --photos=DIR
        [--preset=quick|full] [--out=DIR]
    python -m experiments.explanation.run --redraw [--preset=quick|full] [--out=DIR]

DIR holds photos.csv and photos/. Saliency, guided backpropagation, Grad-CAM and occlusion of the
class that the network finds most probable, and the class model beside them: examples.jpg. Then
layers are drawn anew from the top, and each map is compared with the original one: sanity.csv.gz,
table.md, sanity.png. What is stored is not measured again. SSIM needs scikit-image (extra
`metrics`).
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from experiments.explanation import report
from experiments.photos_evaluation.run import open_photos
from vgg_jax.cli import run_command, show_progress
from vgg_jax.errors import UserError
from vgg_jax.features.attribution import (
    GRADIENT_METHODS,
    METHODS,
    gradient_maps,
    occlusion_map,
    probabilities,
)
from vgg_jax.features.class_visualization import visualize_class
from vgg_jax.features.explanation import Explanation
from vgg_jax.features.sanity_check import fresh_variables, randomized_from_top
from vgg_jax.runs.experiments import ExperimentParser, stored
from vgg_jax.runs.record import Record
from vgg_jax.runs.tables import read_table, table_rows, write_table
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights
from vgg_jax.xla import enable_compilation_cache

STRIDE = 1 / 7  # of the occluding squares: they touch, 7 x 7 of them
BATCH_SIZE = 5
CELLS = "cells"  # maps of each photo; git leaves them out


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much is measured.

    Attributes:
      photos: the first ones of photos.csv, by number.
      layers: down to which the network loses what it learnt, from the top.
      between: further ones, measured after those for all seeds.
      seeds: of the layers drawn anew.
      occluded_layers: those for which occlusion is compared too, at the end.
      class_steps: of gradient ascent to a class model.
    """

    photos: tuple[int, ...]
    layers: tuple[str, ...]
    between: tuple[str, ...]
    seeds: tuple[int, ...]
    occluded_layers: tuple[str, ...]
    class_steps: int


_LAYERS = ("fc8", "fc6", "conv5_1", "conv4_1", "conv3_1", "conv2_1", "conv1_1")
PRESETS = {
    "quick": Preset((2, 6), ("fc8", "conv5_1", "conv1_1"), (), (0,), (), 10),
    "full": Preset(
        (0, 2, 6, 8, 15, 24, 25, 28, 31, 34),
        _LAYERS,
        ("fc7", "conv5_4", "conv4_4", "conv3_4", "conv2_2", "conv1_2"),
        (0, 1, 2),
        _LAYERS,
        24,
    ),
}


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__, presets=[*PRESETS], folder_per_preset=True)
    parser.add_argument("--weights", type=Path, help="VGG-19's weights file")
    parser.add_argument("--photos", type=Path, help="folder of photos.csv")
    args = parser.parse_args(argv)
    if not args.redraw:
        if args.weights is None or args.photos is None:
            raise UserError("give --weights=FILE and --photos=DIR to measure, or --redraw")
        if not (args.photos / "photos.csv").is_file():
            raise UserError(f"no photos.csv in {args.photos}: give the folder that holds it")
        preset, weights = PRESETS[args.preset], load_weights(args.weights)
        args.out.mkdir(parents=True, exist_ok=True)
        record = Record(args.out, parser.module, argv, ["scikit-image", "pillow", "scipy"])
        enable_compilation_cache()
        originals, models = explain_photos(weights, args.photos, preset, args.out / CELLS)
        report.draw_examples(originals, models, args.out / report.EXAMPLES)
        if states := compare(weights, originals, preset, args.out / report.TABLE):
            record.write(states=states)
    stored(args.out / report.TABLE)
    report.draw(args.out)
    return 0


def explain_photos(
    weights: Weights, data_dir: Path, preset: Preset, cells: Path
) -> tuple[dict[int, Explanation], dict[int, np.ndarray]]:
    """Returns by number of the photo its explanation, and its class model (crop, crop, 3).

    Both are read from the folder `cells` if they are there.
    """
    cells.mkdir(parents=True, exist_ok=True)
    photos = open_photos(data_dir, max(preset.photos) + 1)
    originals, models = {}, {}
    for number in show_progress(preset.photos, "photo"):
        cell = cells / f"photo_{number}.npz"
        if not cell.exists():
            photo = weights.preprocessing.load(photos.path(number))
            _store(cell, weights, photo, preset.class_steps)
        with np.load(cell) as content:
            label = int(content["label"])
            originals[number] = Explanation(
                content["photo"],
                label,
                weights.class_names[label],
                float(content["probability"]),
                {method: content[method] for method in METHODS},
            )
            models[number] = content["class_model"]
    return originals, models


def _store(cell: Path, weights: Weights, photo: np.ndarray, class_steps: int) -> None:
    named = {"model": weights.model, "preprocessing": weights.preprocessing}
    found = np.asarray(probabilities(weights.variables, photo[None], **named)[0])
    label = int(found.argmax())
    model, _ = visualize_class(weights, label, steps=class_steps)
    (found_maps,) = maps(weights, weights.variables, photo[None], np.array([label]), METHODS)
    partial = cell.with_suffix(".partial.npz")
    np.savez_compressed(
        partial,
        photo=photo,
        label=label,
        probability=found[label],
        class_model=model,
        **found_maps,
    )
    partial.replace(cell)


def maps(
    weights: Weights,
    variables: dict,
    photos: np.ndarray,
    labels: np.ndarray,
    methods: tuple[str, ...],
) -> Iterator[dict[str, np.ndarray]]:
    """Yields for each photo its maps by method, float32 (h, w).

    Args:
      weights: of the network.
      variables: the ones to use, those of the weights or others.
      photos: uint8 (N, H, W, 3) RGB.
      labels: int (N,), the classes to speak for.
      methods: of `METHODS`.
    """
    named: dict[str, Any] = {"model": weights.model, "preprocessing": weights.preprocessing}
    by_gradient = tuple(method for method in methods if method in GRADIENT_METHODS)
    for start in range(0, len(photos), BATCH_SIZE):
        batch = photos[start : start + BATCH_SIZE], labels[start : start + BATCH_SIZE]
        computed = gradient_maps(variables, *batch, methods=by_gradient, **named)
        for index, (photo, label) in enumerate(zip(*batch, strict=True)):
            found = {method: np.asarray(values[index]) for method, values in computed.items()}
            if "occlusion" in methods:
                found["occlusion"] = occlusion_map(variables, photo, label, stride=STRIDE, **named)
            yield found


def compare(weights: Weights, originals: dict[int, Explanation], preset: Preset, path: Path) -> int:
    """Adds to the table at `path` the comparisons that it lacks, and writes it after every state.

    A photo's map is compared with that of the next photo too, by the same network: what maps have
    in common that do not explain the same. Returns how many states of the network were added.
    """
    rows: list[dict[str, Any]] = table_rows(read_table(path)) if path.exists() else []
    if not rows:
        following = [*originals][1:] + [*originals][:1]
        for number, other in zip(originals, following, strict=True):
            constants = {"photo": number, "seed": 0, "layer": report.OTHER_PHOTO}
            rows += _rows(constants, originals[number].maps, originals[other].maps)
        write_table(path, rows, report.COLUMNS)
    done = {(int(row["seed"]), row["layer"], row["method"]) for row in rows}
    fresh = functools.lru_cache(maxsize=1)(lambda seed: fresh_variables(weights.model, seed))
    missing = [each for each in _states(preset) if (each[0], each[1], each[2][0]) not in done]
    photos = np.stack([original.photo for original in originals.values()])
    labels = np.array([original.label for original in originals.values()])
    for seed, layer, methods in show_progress(missing, "state"):
        variables = randomized_from_top(weights.variables, fresh(seed), weights.model, layer)
        found = maps(weights, variables, photos, labels, methods)
        for (number, original), others in zip(originals.items(), found, strict=True):
            constants = {"photo": number, "seed": seed, "layer": layer}
            rows += _rows(constants, original.maps, others)
        write_table(path, rows, report.COLUMNS)
    return len(missing)


def _states(preset: Preset) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yields seed, layer and methods; the slow method comes last."""
    for layers, methods in (
        (preset.layers, GRADIENT_METHODS),
        (preset.between, GRADIENT_METHODS),
        (preset.occluded_layers, ("occlusion",)),
    ):
        for seed, layer in itertools.product(preset.seeds, layers):
            yield seed, layer, methods


def _rows(
    constants: dict[str, Any], original: dict[str, np.ndarray], found: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    return [
        constants | {"method": method} | report.likeness(original[method], values)
        for method, values in found.items()
    ]


if __name__ == "__main__":
    run_command(main)
