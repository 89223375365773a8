"""Tables 3 to 7, measured by the paper's protocols on given weights and images."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.paper_tables.tables import Cells, Table
from vgg_jax.data.folder import FolderSource, open_folder
from vgg_jax.errors import UserError
from vgg_jax.json_files import write_json

JITTERED = "256-512"  # training scale drawn between the two; the published D and E have it
# Scales Q at which a net trained at S is tested, if there are several (sections 4.2 and 4.4).
TEST_SCALES = {"256": (224, 256, 288), "384": (352, 384, 416), JITTERED: (256, 384, 512)}
TABLES = (3, 4, 5, 6)
NO_RUN = "No run here yet."
VALIDATION_IMAGES = 50_000  # of ILSVRC-2012, which the paper's Tables 3 to 6 are measured on
NOT_COMPARABLE = (
    f"These are not the {VALIDATION_IMAGES:,} images of ILSVRC-2012's validation set: the figures "
    "on the two sides of a cell cannot be compared."
)
_PARTS = {"dense": ("dense",), "multicrop": ("multicrop",), "both": ("dense", "multicrop")}
_SUBMISSION = "D@256, D@384, D@256-512 (FC layers), C@256, C@384, E@256, E@384"
# Rows of Table 7 that are rows of Tables 5 and 6.
_REPEATED = {
    "VGG (2 nets, multi-crop & dense)": (6, ("D@256-512, E@256-512", "both")),
    "VGG (1 net, multi-crop & dense)": (5, ("E", "both")),
    "VGG (ILSVRC submission, 7 nets, dense)": (6, (_SUBMISSION, "dense")),
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One row's figures.

    Attributes:
      nets: (net@S, scales Q) of each net whose probabilities are averaged.
      protocol: "dense", "multicrop" or "both".
    """

    nets: tuple[tuple[str, tuple[int, ...]], ...]
    protocol: str

    @property
    def name(self) -> str:
        """The key of the evaluation in the stored results."""
        nets = "; ".join(f"{net} at {','.join(map(str, scales))}" for net, scales in self.nets)
        return f"{self.protocol}: {nets}"


def parse_weights(arguments: list[str]) -> dict[str, Path]:
    """Returns {"D@256-512": file} for arguments such as D=FILE, D@256=FILE or E@384=FILE.

    Raises:
      UserError: an argument of another form, an unknown net or scale, or no such file.
    """
    files = {}
    for argument in arguments:
        net, equals, file = argument.partition("=")
        name, _, scale = net.partition("@")
        scale = scale or JITTERED
        if not equals or name not in ("A", "A-LRN", "B", "C", "D", "E") or scale not in TEST_SCALES:
            raise UserError(
                f"--weights {argument!r}: give NET=FILE or NET@S=FILE, as in D=vgg16.safetensors "
                f"E@384=vgg19.safetensors, with S one of {', '.join(TEST_SCALES)}"
            )
        if not Path(file).is_file():
            raise UserError(f"--weights {argument}: no file {file}")
        files[f"{name}@{scale}"] = Path(file)
    return files


def evaluations(table: Table) -> Iterator[tuple[tuple[str, ...], Evaluation]]:
    """Yields the keys of each row of Tables 3 to 6, and its evaluation."""
    for keys, _ in table.rows:
        match table.number:
            case 3 | 4:
                net, trained, tested = keys
                scales = tuple(int(scale) for scale in tested.split(","))
                yield keys, Evaluation(((f"{net}@{trained}", scales),), "dense")
            case 5:
                net, protocol = keys
                nets = ((f"{net}@{JITTERED}", TEST_SCALES[JITTERED]),)
                yield keys, Evaluation(nets, protocol)
            case 6:
                names = [name.strip().removesuffix(" (FC layers)") for name in keys[0].split(",")]
                nets = tuple((name, TEST_SCALES[name.partition("@")[2]]) for name in names)
                yield keys, Evaluation(nets, keys[1])


def measure(
    tables: Mapping[int, Table],
    weights: Mapping[str, Path],
    folder: Path,
    store: Path,
    described: Mapping[str, Any],
) -> None:
    """Makes every evaluation for which there are weights, and adds it to the results in `store`.

    Stored evaluations of the same weights and images are not made again. Each net sees the images
    once per protocol and scale. Its probabilities are kept in `probabilities/` beside `store`,
    4 bytes per image and class, and rows average them.

    Args:
      tables: by number.
      weights: as of `parse_weights`.
      folder: class folders of images.
      store: file of the results.
      described: the record of the run, stored with each result.
    """
    source = open_folder(str(folder), "", ())
    wanted = {e.name: e for n in TABLES if n in tables for _, e in evaluations(tables[n])}
    for name, evaluation in wanted.items():
        nets = [net for net, _ in evaluation.nets]
        if not all(net in weights for net in nets):
            continue
        results = read_results(store)
        inputs = {"dataset": folder.name, "examples": len(source)}
        inputs |= {"weights": [weights[net].name for net in nets]}
        if name in results and results[name].items() >= inputs.items():
            continue
        print(f"{name}: {len(source):,} images", flush=True)
        kept = store.parent / "probabilities" / f"{folder.name}_{len(source)}"
        scores = _scores(evaluation, weights, source, kept)
        write_json(store, results | {name: scores | inputs | described})


def _scores(
    evaluation: Evaluation, weights: Mapping[str, Path], source: FolderSource, folder: Path
) -> dict[str, Any]:
    """Returns the scores of probabilities averaged over nets, scales and protocols."""
    # Imported late: the tables can be written without.
    from vgg_jax.evaluation.accuracy import accuracy_report

    views = [
        (net, protocol, scale)
        for net, scales in evaluation.nets
        for protocol in _PARTS[evaluation.protocol]
        for scale in scales
    ]
    mean = np.zeros((), np.float32)
    for net, protocol, scale in views:
        path = folder / f"{net}_{weights[net].stem}_{protocol}_{scale}.npz"
        if not path.exists():
            _keep_probabilities(path, weights[net], source, protocol, scale)
        with np.load(path) as kept:
            mean = mean + kept["probabilities"] / len(views)
            labels = kept["labels"]
    return accuracy_report(mean, labels)


def _keep_probabilities(
    path: Path, weights: Path, source: FolderSource, protocol: str, scale: int
) -> None:
    """Writes the probabilities of one net, protocol and scale, and labels by the net's classes."""
    from vgg_jax.cli import show_progress
    from vgg_jax.evaluation.accuracy import aligned_labels
    from vgg_jax.evaluation.probabilities import dataset_probabilities
    from vgg_jax.weights.loading import load_weights

    net = load_weights(weights)
    print(f"{weights.name}, {protocol} at {scale}", flush=True)
    probabilities, labels = dataset_probabilities(
        [net],
        source,
        protocol=protocol,
        scales=(scale,),
        progress=lambda indices: show_progress(indices, "image"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp.npz")
    aligned = aligned_labels(labels, source.class_names, net.class_names)
    np.savez(partial, probabilities=probabilities, labels=aligned)
    partial.replace(path)


def read_results(store: Path) -> dict[str, dict[str, Any]]:
    """Returns the stored results by the name of their evaluation."""
    return json.loads(store.read_text()) if store.exists() else {}


def measured_cells(
    tables: Mapping[int, Table], number: int, store: Path
) -> tuple[Cells, list[str]]:
    """Returns the measured cells of a table, and footnotes about their images."""
    if number == 7:
        return _repeated_cells(tables, store)
    results = read_results(store)
    cells, images, comparable = {}, set(), True
    for keys, evaluation in evaluations(tables[number]):
        if result := results.get(evaluation.name):
            images.add(f"{result['examples']:,} images of {result['dataset']}")
            comparable &= result["examples"] == VALIDATION_IMAGES
            for column in tables[number].columns:
                if "test" not in column:
                    score = result["top1" if column.startswith("top-1") else "top5"]
                    cells[keys, column] = f"{100 * (1 - score):.1f}"
    if not images:
        return cells, [NO_RUN]
    notes = [f"Here: {'; '.join(sorted(images))}."]
    if not comparable:
        notes.append(NOT_COMPARABLE)
    return cells, notes


def _repeated_cells(tables: Mapping[int, Table], store: Path) -> tuple[Cells, list[str]]:
    cells, notes = {}, [NO_RUN]
    for method, (number, keys) in _REPEATED.items():
        found, images = measured_cells(tables, number, store)
        for column in ("top-1", "top-5"):
            for name in (f"{column} val. error [%]", f"{column} error [%]"):
                if (keys, name) in found:
                    cells[(method,), f"{column} val. error [%]"] = found[keys, name]
                    notes = images
    return cells, notes
