"""What imported convolutions do, beside those of VGG-19: alike where they must be, and useful.

Torchvision's VGG-16 and the authors' VGG-19 were trained apart, so channels have no partners by
number, and alignment (`vgg_jax.probes.similarity`) is what can be compared. Two controls: the same
weights fed with BGR instead of RGB, and random weights.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.photos_evaluation.run import open_photos
from vgg_jax.data.preprocessing import resize_shortest
from vgg_jax.features.extractor import extract_features
from vgg_jax.probes.similarity import best_correlations, linear_cka
from vgg_jax.weights.store import Weights

COLUMNS = ("net", "seed", "group", "endpoint", "quantity", "value")
ENDPOINTS = ("conv1_1", "pool1", "pool5")
SIDE = 112  # pixels
BATCH_SIZE = 20
POSITIONS = 12  # of a photo, in the first two
GROUP = 25  # photos, for intervals
SEEDS = (0, 1, 2)  # of random weights, and of the folds
IMPORTED, SWAPPED = "imported", "imported, fed BGR"
ANIMALS = 398  # ImageNet's classes 0 to 397


def compare(weights: Weights, vgg19: Weights, data_dir: Path, count: int) -> Iterator[dict]:
    """Yields the alignment of nets with VGG-19 by group of photos, and how well features classify.

    Args:
      weights: of VGG-16.
      vgg19: of VGG-19.
      data_dir: folder of photos.csv.
      count: number of photos.
    """
    source = open_photos(data_dir, count)
    examples = [source[index] for index in range(len(source))]
    photos = np.stack([resize_shortest(each["image"], SIDE)[:SIDE, :SIDE] for each in examples])
    animal = np.array([each["label"] < ANIMALS for each in examples])
    groups = max(2, len(photos) // GROUP)
    theirs = features(vgg19, photos)
    yield from classification("VGG-19", 0, theirs["pool5"], animal)
    for net, seed, each in nets(weights):
        ours = features(each, photos)
        yield from classification(net, seed, ours["pool5"], animal)
        for group, members in enumerate(np.array_split(np.arange(len(photos)), groups)):
            described = {"net": net, "seed": seed, "group": group}
            for name in ENDPOINTS:
                pair = [values[name][members] for values in (ours, theirs)]
                flat = [values.reshape(-1, values.shape[-1]) for values in pair]
                measured = {"alignment": linear_cka(*flat)}
                if name != "pool5":
                    measured["best correlation"] = float(best_correlations(*flat).mean())
                for quantity, value in measured.items():
                    yield described | {"endpoint": name, "quantity": quantity, "value": value}


def nets(weights: Weights) -> Iterator[tuple[str, int, Weights]]:
    """Yields what is compared with VGG-19: name, seed, weights."""
    yield IMPORTED, 0, weights
    order = {"RGB": "BGR", "BGR": "RGB"}[weights.preprocessing.channel_order]
    swapped = dataclasses.replace(weights.preprocessing, channel_order=order)
    yield SWAPPED, 0, dataclasses.replace(weights, preprocessing=swapped)
    images = jnp.zeros((1, *(weights.model.smallest_image,) * 2, 3))
    initialize = jax.jit(weights.model.init)
    for seed in SEEDS:
        variables = initialize(jax.random.key(seed), images)
        yield "random", seed, dataclasses.replace(weights, variables=variables)


def features(weights: Weights, photos: np.ndarray) -> dict[str, np.ndarray]:
    """Returns (photos, positions, channels): some positions of early maps, the mean of the last."""
    rng = np.random.default_rng(0)  # the same positions for every net
    found: dict[str, list[np.ndarray]] = {name: [] for name in ENDPOINTS}
    for start in range(0, len(photos), BATCH_SIZE):
        maps = extract_features(weights, photos[start : start + BATCH_SIZE], ENDPOINTS)
        for name, values in maps.items():
            flat = values.reshape(len(values), -1, values.shape[-1])
            if name == "pool5":
                found[name].append(flat.mean(1, keepdims=True))
            else:
                chosen = rng.integers(0, flat.shape[1], (len(flat), POSITIONS, 1))
                found[name].append(np.take_along_axis(flat, chosen, 1))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def classification(
    net: str, seed: int, means: np.ndarray, animal: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Yields the accuracy of telling animals from things by ridge regression, five folds a seed."""
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=100.0))
    for group in SEEDS:
        folds = StratifiedKFold(5, shuffle=True, random_state=group)
        scores = cross_val_score(classifier, means[:, 0], animal, cv=folds)
        yield {"net": net, "seed": seed, "group": group, "endpoint": "pool5"} | {
            "quantity": "animals told from things",
            "value": float(scores.mean()),
        }
