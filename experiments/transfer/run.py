"""Compares published VGG-19 weights with random ones on other classes, with few images per class.

    python -m experiments.transfer.run --weights=vgg19.safetensors --data_dir=DIR [--out=DIR]
    python -m experiments.transfer.run --redraw [--out=DIR]

DIR is the folder of TFDS's CIFAR-10 (python -m vgg_jax.prepare cifar10); the digits come with a
dependency. Results that are stored in --out are not measured again. `--redraw` only writes the
table again.
"""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vgg_jax.cli import run_command, show_progress
from vgg_jax.config import load_config, override_arguments
from vgg_jax.data import imagenet
from vgg_jax.data.arrays import Subset
from vgg_jax.data.source import Source
from vgg_jax.data.sources import open_source
from vgg_jax.errors import UserError
from vgg_jax.evaluation.accuracy import measure_accuracy
from vgg_jax.features.linear_probe import (
    classify_linearly,
    draw_few,
    few_a_class,
    image_descriptors,
)
from vgg_jax.runs.experiments import ExperimentParser, measured_once, stored
from vgg_jax.runs.record import record
from vgg_jax.runs.tables import markdown
from vgg_jax.training.export_run import load_run
from vgg_jax.training.loop import train
from vgg_jax.training.state import init_variables
from vgg_jax.weights.loading import load_weights
from vgg_jax.weights.store import Weights
from vgg_jax.xla import enable_compilation_cache

CONFIGS = {"cifar10": "configs/vgg16.py:cifar10", "digits": "configs/vgg16.py:digits"}
MOST = 10  # training images per class; fewer are drawn from these
COUNTS = (1, 5, MOST)  # images per class that classifiers learn from
DRAWS = 5  # random choices of these images, if fewer than MOST
TEST_EXAMPLES = 200
SIDE = 64  # pixels that the images are enlarged to
EPOCHS = 5.0
STARTS = ("published", "random")


@dataclasses.dataclass(frozen=True)
class Probe:
    """A linear classifier on features: which, and of images of which size."""

    data: str
    endpoint: str
    scale: int
    starts: tuple[str, ...] = STARTS
    most: int = MOST
    test_examples: int = TEST_EXAMPLES


PROBES = (
    Probe("digits", "pool4", SIDE),
    Probe("cifar10", "pool4", SIDE),
    Probe("cifar10", "pool5", SIDE),
    # The paper's protocol in full: the penultimate layer, images of the network's size.
    Probe("cifar10", "relu7", 224, starts=("published",), most=5, test_examples=50),
)
TUNED = ("digits", "cifar10")


def main(argv: list[str]) -> int:
    """Runs the command line; returns its exit status."""
    parser = ExperimentParser(__file__, __doc__)
    parser.add_argument("--weights", type=Path, help="VGG-19's weights file")
    parser.add_argument("--data_dir", type=Path, help="folder of TFDS data sets")
    args = parser.parse_args(argv)
    if args.redraw:
        write_table(stored(args.out))
        return 0
    if args.weights is None or args.data_dir is None:
        raise UserError("give --weights=FILE and --data_dir=DIR to measure, or --redraw")
    enable_compilation_cache()
    described = record(parser.module, argv)
    for name, measure in cells(args.weights, args.data_dir):
        print(name, flush=True)
        measured_once(args.out / f"{name}.json", partial(timed, measure, described))
        write_table(args.out)
    return 0


def timed(measure: Callable[[], list[dict]], described: dict[str, Any]) -> dict[str, Any]:
    """Returns the rows that were measured, the seconds it took and the record of the run."""
    started = time.perf_counter()
    rows = measure()
    return {"rows": rows, "seconds": time.perf_counter() - started} | described


def cells(weights: Path, data_dir: Path) -> Iterator[tuple[str, Callable[[], list[dict]]]]:
    """Yields the name of each result file and the function that measures it, cheap ones first."""
    probes = [
        (
            f"probe-{p.data}-{p.endpoint}-{p.scale}-{start}",
            lambda p=p, start=start: probe(p, start, weights, data_dir),
        )
        for p in PROBES
        for start in p.starts
    ]
    yield from probes[:4]
    for data in TUNED:
        for start in STARTS:
            yield (
                f"finetune-{data}-{SIDE}-{start}",
                lambda data=data, start=start: finetune(data, start, weights, data_dir),
            )
    yield from probes[4:]


def open_data(name: str, data_dir: Path, most: int, test_examples: int) -> tuple[Source, Source]:
    """Returns `most` training images per class, and the first test images."""
    data = load_config(CONFIGS[name], [f"--config.data.dir={data_dir}"]).data
    train_source = few_a_class(open_source(data, data.train_split), most, seed=0)
    return train_source, Subset(open_source(data, data.eval_split), np.arange(test_examples))


# --- Linear probe --------------------------------------------------------------------------------


def probe(probe: Probe, start: str, path: Path, data_dir: Path) -> list[dict[str, Any]]:
    """Computes features once; returns the scores of classifiers on few and on more images."""
    weights = load_weights(path)
    if start == "random":
        weights = with_random_weights(weights)
    sources = open_data(probe.data, data_dir, probe.most, probe.test_examples)
    (features, labels), test = (
        image_descriptors(
            weights,
            source,
            endpoint=probe.endpoint,
            scales=(probe.scale,),
            progress=lambda indices: show_progress(indices, "image"),
        )
        for source in sources
    )
    rows = []
    for count in (count for count in COUNTS if count <= probe.most):
        for seed in range(DRAWS if count < probe.most else 1):
            drawn = draw_few(labels, count, seed)
            scores = classify_linearly(features[drawn], labels[drawn], *test)
            rows.append({"images_per_class": count, "draw": seed} | scores)
    return rows


def with_random_weights(weights: Weights) -> Weights:
    """Returns the same network with weights drawn by He's initialisation."""
    model = weights.model.clone(kernel_init="he_fan_in")
    variables = jax.jit(lambda: init_variables(model, 0, model.smallest_image))()
    return dataclasses.replace(weights, model=model, variables=variables)


# --- Fine-tuning ---------------------------------------------------------------------------------


def finetune(data: str, start: str, path: Path, data_dir: Path) -> list[dict[str, Any]]:
    """Trains a network on a few images per class; returns its scores on the test images."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / f"{data}.npz"
        save_arrays(file, *open_data(data, data_dir, MOST, TEST_EXAMPLES))
        workdir = Path(scratch) / "run"
        config = tuning_config(data, start, path, file)
        summary = train(config, workdir, time.perf_counter())
        if summary["exit_reason"] != "finished":
            raise KeyboardInterrupt  # stopped by a signal: nothing to store
        weights, source, name = load_run(workdir)
        scores = measure_accuracy([weights], source, dataset=name, with_classes=True)
    kept = {key: summary[key] for key in ("steps", "parameters", "metrics")}
    return [{"images_per_class": MOST, "draw": 0} | scores | kept]


def tuning_config(data: str, start: str, weights: Path, file: Path) -> ConfigDict:
    """Returns `configs/finetune.py` for small images; random weights are trained in all layers.

    They get the rate and initialiser with which `configs/vgg16.py:digits` trains sixteen layers.
    """
    changes = {
        "data.source": "npz",
        "data.dir": file,
        "data.image_size": SIDE,
        "data.augment": "pad_crop",
        "data.flip": data != "digits",
        "data.batch_size": 10,
        "data.workers": 0,
        "eval.batch_size": 20,
        "eval.every_steps": 0,
        "model.head": "linear",
        "model.num_classes": 10,
        "epochs": EPOCHS,
    }
    if start == "random":
        changes |= {
            "model.kernel_init": "he_fan_in",
            "data.std": imagenet.STD,  # He's initialisation wants inputs of variance 1
            "optimizer.learning_rate": 3e-4,
            "optimizer.rates": (),
            "optimizer.frozen": (),
        }
    overrides = override_arguments(changes)
    config = load_config(f"configs/finetune.py:{weights},{data}", overrides)
    if start == "random":
        config.init.weights, config.init.fresh = None, ()
    return config


def save_arrays(file: Path, train_source: Source, test_source: Source) -> None:
    """Writes sources of images of one size as `data.source=npz` reads them."""
    arrays = {}
    for split, source in (("train", train_source), ("test", test_source)):
        examples = [source[index] for index in range(len(source))]
        arrays[f"x_{split}"] = np.stack([example["image"] for example in examples])
        arrays[f"y_{split}"] = np.array([example["label"] for example in examples])
    np.savez(file, **arrays, class_names=np.array(train_source.class_names))


# --- Table ---------------------------------------------------------------------------------------


def write_table(out: Path) -> None:
    """Writes table.md from the stored results: mean, lowest and highest accuracy over draws."""
    settings = dict.fromkeys(path.stem.rpartition("-")[0] for path in sorted(out.glob("*.json")))
    lines = []
    for setting in settings:
        method, data, *what = setting.split("-")
        by_start = {start: accuracies(out / f"{setting}-{start}.json") for start in STARTS}
        for count in sorted({count for found in by_start.values() for count in found}):
            cells = [shown(by_start[start].get(count, [])) for start in STARTS]
            how = f"{method}, {', '.join(what)} pixels"
            lines.append([data, how, count, *cells])
    head = ["data", "method", "images per class", "published weights", "random weights"]
    (out / "table.md").write_text(markdown(head, lines, "llrrr"))


def accuracies(path: Path) -> dict[int, list[float]]:
    """Returns {images per class: accuracy of each draw} of a stored file, {} if there is none."""
    found: dict[int, list[float]] = {}
    for row in json.loads(path.read_text())["rows"] if path.exists() else []:
        found.setdefault(row["images_per_class"], []).append(row["top1"])
    return found


def shown(values: list[float]) -> str:
    """Returns "61.2% (58.0 to 64.3)"; the range if there are several values."""
    if not values:
        return ""
    mean = f"{np.mean(values):.1%}"
    spread = f" ({100 * min(values):.1f} to {100 * max(values):.1f})"
    return mean + (spread if len(values) > 1 else "")


if __name__ == "__main__":
    run_command(main)
