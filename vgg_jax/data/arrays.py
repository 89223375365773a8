"""Sources held in memory: the embedded digits and `.npz` files."""

import importlib.metadata
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vgg_jax.data.source import Source
from vgg_jax.errors import UserError

# What the splits of a data set are called, the likeliest first.
_SPLITS = {
    "train_split": ("train", "training"),
    "eval_split": ("validation", "val", "valid", "eval", "dev", "test"),
}
IN_MEMORY_BYTES = 2**30  # decoded images up to this size are held in memory


class ArraySource(Source):
    """A source whose images, all of one size, are in memory.

    Attributes:
      images: uint8 (N, H, W, 3), RGB.
      labels: int32 (N,).
      class_names: the name of each class.
    """

    labels: np.ndarray

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]
    ) -> None:
        self.images = images
        self.labels = labels
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), int(self.labels[index])


class Subset(Source):
    """Some examples of a source."""

    def __init__(self, source: Source, indices: np.ndarray) -> None:
        """Takes the examples `indices`, integers (n,), of a source."""
        self.class_names = source.class_names
        self.labels = None if source.labels is None else source.labels[indices]
        self._source = source
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        return self._source.load(int(self._indices[index]), min_side)


def missing_split(data_set: str, split: str, known: list[str]) -> UserError:
    """Returns the error for a split that a data set does not have, with the one to type instead."""
    hint = "Name them by --config.data.train_split and --config.data.eval_split"
    for key, names in _SPLITS.items():
        like = sorted((names.index(name), name) for name in known if name in names)
        if split in names and like:
            hint = f"Type --config.data.{key}={like[0][1]}"
    return UserError(
        f"{data_set} has no split {split!r}; it has: {', '.join(known) or 'none'}.\n{hint}"
    )


def open_digits(split: str) -> ArraySource:
    """Opens scikit-learn's 1797 handwritten digits, 8x8 grey, as RGB of 0..255.

    Split "test" is every fifth example of every class, 359 images, "train" the other 1438: as in a
    random split, each writer is in both. (The last fifth in file order, of writers who are not
    among the others, is harder.)
    """
    # The file that sklearn.datasets.load_digits reads, without that import: it takes as long as all
    # others of a run together.
    package = importlib.metadata.distribution("scikit-learn")
    table = np.loadtxt(
        str(package.locate_file("sklearn/datasets/data/digits.csv.gz")), np.float32, delimiter=","
    )
    images, labels = table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int32)
    is_test = np.zeros(len(labels), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        is_test[members[2::5]] = True
    members_of = {"train": ~is_test, "test": is_test}
    if split not in members_of:
        raise missing_split("digits", split, list(members_of))
    chosen = members_of[split]
    grey = np.round(images[chosen] * (255 / 16)).astype(np.uint8)  # stored as 0..16
    return ArraySource(_to_rgb(grey), labels[chosen], tuple(str(digit) for digit in range(10)))


def open_npz(data_dir: str | None, name: str, split: str) -> ArraySource:
    """Opens a split of an `.npz` file.

    The file holds `x_<split>`, uint8 (N, H, W, 3) or (N, H, W), and `y_<split>`, integers (N,) or
    (N, 1), for each split, or `images` and `labels`, whose split is named "". `class_names` is
    optional.

    Args:
      data_dir: the file, or a folder that holds it as `name`.npz.
      name: of the data set.
      split: name of the split.

    Raises:
      UserError: the file or the split is missing, or its arrays do not fit.
    """
    if data_dir is None:
        raise UserError("data.source 'npz' needs --config.data.dir=FILE.npz")
    path = Path(data_dir).expanduser()
    path = path / f"{name}.npz" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"no file {path}: give the .npz file or the folder it is in")
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            arrays = {key: file[key] for key in file if key in _npz_keys(split)}
            splits = sorted(key.removeprefix("x_") for key in file if key.startswith("x_"))
            splits += [""] if "images" in file else []
    # Not a zip archive, or one of pickled objects, or damaged.
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is no .npz file of plain arrays: {error}") from error
    images_key, labels_key, _ = _npz_keys(split)
    if images_key not in arrays or labels_key not in arrays:
        if splits == [""]:
            raise UserError(
                f"{path} has images and labels without splits: type\n--config.data.train_split= "
                "--config.data.eval_split= to train and evaluate on them"
            )
        raise missing_split(str(path), split, splits)
    return array_source(
        arrays[images_key],
        arrays[labels_key],
        arrays.get("class_names"),
        keys=(f"{path}: {images_key}", labels_key),
    )


def array_source(
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[object] | np.ndarray | None = None,
    *,
    keys: tuple[str, str],
) -> ArraySource:
    """Returns the source of images and labels in memory.

    Args:
      images: uint8 (N, H, W, 3) RGB, or (N, H, W) grey.
      labels: integers (N,) or (N, 1).
      class_names: one per class; None for their numbers.
      keys: what images and labels are called, for an error.

    Raises:
      UserError: they are not of these types and shapes.
    """
    images_key, labels_key = keys
    labels = labels.reshape(-1)
    is_image = images.dtype == np.uint8 and (images.ndim == 3 or images.shape[3:] == (3,))
    is_label = labels.dtype.kind in "iu" and len(labels) == len(images) > 0
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        wrong = int(np.flatnonzero(~np.isfinite(images.reshape(len(images), -1)).all(axis=1))[0])
        raise UserError(f"{images_key} has NaN or infinity, first in example {wrong}")
    if not (is_image and is_label):
        scaled = images.dtype.kind == "f"
        hint = (
            "\nFloats of 0..1 become so by (255 * images).round().astype('uint8')" if scaled else ""
        )
        raise UserError(
            f"{images_key} is {images.dtype} {images.shape}, {labels_key} {labels.dtype} "
            f"{labels.shape}; they must be uint8 (N, H, W, 3) or (N, H, W), and integers (N,){hint}"
        )
    if images.ndim == 3:
        images = _to_rgb(images)
    labels = labels.astype(np.int32)
    names = range(labels.max() + 1) if class_names is None else class_names
    return ArraySource(images, labels, tuple(str(name) for name in names))


def _npz_keys(split: str) -> tuple[str, str, str]:
    if split == "":
        return "images", "labels", "class_names"
    return f"x_{split}", f"y_{split}", "class_names"


def _to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)
