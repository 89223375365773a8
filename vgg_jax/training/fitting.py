"""Training from Python, on arrays: the run that the command line makes, without files."""

import contextlib
import copy
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from vgg_jax.config import apply_overrides, flatten, load_config, override_arguments
from vgg_jax.data.arrays import ArraySource, array_source
from vgg_jax.data.sources import MEMORY
from vgg_jax.errors import UserError, unknown_name
from vgg_jax.models.variants import list_models, network_fields
from vgg_jax.runs.reader import StoredRun
from vgg_jax.training.export_run import load_run
from vgg_jax.training.loop import train
from vgg_jax.weights.store import Weights
from vgg_jax.xla import make_deterministic

Arrays = tuple[ArrayLike, ArrayLike]

_RECIPE = "digits"  # of a network without a data set's word: small images, few steps
_NET = "vgg16"  # whose config a network without a file of its own changes
_STRIDE, _LARGEST = 32, 224  # pixels: sides of images that a bare name trains at
_NEVER = 2**31 - 1  # steps


class Fitted(NamedTuple):
    """What `fit` returns: `history, model = fit(...)`.

    Attributes:
      history: what the run recorded: `history.curve("train/loss")` are pairs (step, value),
        `history.lines` all numbers, `history.summary` times, versions and the last of the numbers.
      model: what `predict`, `extract_features` and `save_weights` take.
    """

    history: StoredRun
    model: Weights


def fit(
    config: str | ConfigDict,
    data: Arrays,
    *,
    validation: Arrays | None = None,
    class_names: Sequence[str] | None = None,
    workdir: str | os.PathLike[str] | None = None,
    **changes: Any,
) -> Fitted:
    """Trains a network on arrays, by the loop of `python -m vgg_jax.train`.

        history, model = fit("vgg16_bn", data=(x, y), validation=(x_test, y_test), epochs=3)
        predict(model, ["photo.jpg"])
        save_weights("own.safetensors", model)

    Ctrl-C, or a notebook's stop button, ends training after the step; what was learnt is returned.

    Args:
      config: what may follow `--config=`, such as "vgg16:cifar10,bn" or "finetune:FILE"; or one of
        `list_models()`; or a config. A network that names no data set is trained by the recipe of
        `digits`, at the side of the images (a multiple of 32, at most 224), normalised by their
        own mean and standard deviation.
      data: images, uint8 (N, H, W, 3) RGB or (N, H, W) grey, and labels, integers (N,) from 0.
      validation: images and labels that are scored after each epoch. Without any, the training
        images are scored, once at the end: `eval/top1` is that of training then.
      class_names: one per class; without them, their numbers.
      workdir: run directory, from which the same call resumes; without one nothing is kept.
      **changes: keys of the config: epochs=3, learning_rate=0.02 or optimizer_learning_rate=0.02,
        data_batch_size=64. What they leave out follows from the arrays: the number of classes, and
        an evaluation every epoch.

    Returns:
      What the run recorded, with `history.curve("eval/top1")` and the like, and the trained
      network with its variables, preprocessing and class names.

    Raises:
      UserError: arrays that are no images and labels, an unknown name or key, or a value that the
        config refuses.
      NonFiniteError: training diverged.
      StorageError: the run directory can no longer be written.
    """
    started = time.perf_counter()
    train_source = _source("data", data, class_names)
    scored = train_source
    if validation is not None:
        scored = _source("validation", validation, class_names)
    whole = _with_arrays(config, train_source, scored, keep=workdir is not None, changes=changes)
    if whole.probe.every_steps and workdir is None:
        raise UserError("probe_every_steps writes to the run directory: give workdir=DIR, too")
    if whole.log.trackers and workdir is None:
        raise UserError("trackers keep their ids in the run directory: give workdir=DIR, too")
    if whole.deterministic:
        make_deterministic()
    with _folder(workdir) as folder:
        train(whole, folder, started, sources=(train_source, scored))
        model, _, _ = load_run(folder, scored)
        return Fitted(StoredRun(folder).loaded(), model)


def _source(argument: str, arrays: Arrays, class_names: Sequence[str] | None) -> ArraySource:
    try:
        images, labels = arrays
    except (TypeError, ValueError) as error:
        raise UserError(f"{argument} takes two arrays: {argument}=(images, labels)") from error
    keys = (f"{argument}[0]", f"{argument}[1]")
    return array_source(np.asarray(images), np.asarray(labels), class_names, keys=keys)


def _with_arrays(
    given: str | ConfigDict,
    source: ArraySource,
    scored: ArraySource,
    *,
    keep: bool,
    changes: Mapping[str, Any],
) -> ConfigDict:
    """Returns a config with its changes, and with what follows from the arrays where they do not.

    Args:
      given: as of `fit`.
      source: the training images.
      scored: the images that are evaluated.
      keep: whether checkpoints on the way are of use.
      changes: as of `fit`.
    """
    if isinstance(given, str):
        config, follows = _by_name(given, source)
    else:
        config, follows = copy.deepcopy(given), {}
    keys = list(flatten(config))
    chosen = {_key(word, keys): _without_numpy(value) for word, value in changes.items()}
    apply_overrides(config, override_arguments(chosen))
    names = max(source.class_names, scored.class_names, key=len)
    epoch = max(1, round(len(source) / config.data.batch_size))
    follows |= {
        "model.num_classes": len(names),
        "data.workers": 0,
        "eval.every_steps": 0 if scored is source else epoch,
        "checkpoint.every_steps": epoch if keep else _NEVER,
    }
    fixed = {
        "data.source": MEMORY,
        "data.name": MEMORY,
        "data.train_split": "train",
        "data.eval_split": "train" if scored is source else "validation",
    }
    follows = {key: value for key, value in follows.items() if key not in chosen} | fixed
    apply_overrides(config, override_arguments(follows))
    config.lock()
    return config


def _by_name(spec: str, source: ArraySource) -> tuple[ConfigDict, dict[str, Any]]:
    """Returns the config of a name, and what a network without a data set takes from the images."""
    name, _, words = spec.partition(":")
    if name.lower() not in map(str.lower, list_models()):
        return load_config(spec), {}
    fields = {f"model.{key}": value for key, value in network_fields(name).items()}
    config = load_config(f"{_NET}:{words or _RECIPE}", override_arguments(fields))
    if words:
        return config, {}
    side = min(source.images.shape[1:3]) // _STRIDE * _STRIDE
    values = np.arange(256)
    mean, deviation = [], []
    for channel in range(3):  # by histogram: as floats the images would take four times their room
        shares = np.bincount(source.images[..., channel].ravel(), minlength=256)
        shares = shares / shares.sum()
        mean.append(float(shares @ values))
        deviation.append(max(1.0, float(shares @ (values - mean[-1]) ** 2) ** 0.5))
    return config, {
        "data.image_size": min(max(side, _STRIDE), _LARGEST),
        "data.mean": tuple(mean),
        "data.std": tuple(deviation),
    }


def _without_numpy(value: Any) -> Any:
    """Returns a value with Python's numbers for those of NumPy, such as the mean of the images."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return tuple(map(_without_numpy, value)) if isinstance(value, tuple | list) else value


def _key(word: str, keys: Sequence[str]) -> str:
    """Returns the key that a keyword means: all of it, with "_" or ".", or its last part.

    Raises:
      UserError: it means none, or several.
    """
    exact = [key for key in keys if word in (key, key.replace(".", "_"))]
    found = exact or [key for key in keys if key.rpartition(".")[2] == word]
    if len(found) == 1:
        return found[0]
    if found:
        words = " or ".join(key.replace(".", "_") for key in found)
        raise UserError(f"{word} may be {words}: give one of these")
    raise unknown_name("argument of fit", word, [key.replace(".", "_") for key in keys])


@contextlib.contextmanager
def _folder(workdir: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yields the run directory, or one that is removed at the end."""
    if workdir is not None:
        yield Path(workdir)
        return
    with tempfile.TemporaryDirectory(prefix="vgg_jax_") as folder:
        yield Path(folder) / "fit"
