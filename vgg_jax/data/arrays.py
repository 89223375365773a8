"""Sources that are held in memory: the embedded digits and `.npz` files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vgg_jax.errors import UserError


class Source(Protocol):
    """Labelled images by index."""

    class_names: tuple[str, ...]
    labels: np.ndarray | None  # int32 (N,) where they are known without reading every example

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Returns {"image": uint8 (H, W, 3) RGB, "label": int}."""
        ...


class ArraySource:
    """A source whose images, all of one size, are in memory.

    Attributes:
      images: uint8 (N, H, W, 3), RGB.
      labels: int32 (N,).
      class_names: the name of each class.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]
    ) -> None:
        self.images = images
        self.labels = labels
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index])}


def missing_split(where: str, split: str, known: list[str]) -> UserError:
    """Returns the error for a split that a data set does not have."""
    return UserError(f"{where} has no split {split!r}; it has: {', '.join(known) or 'none'}")


def open_digits(split: str) -> ArraySource:
    """Opens scikit-learn's handwritten digits, 8x8 grey, as RGB of 0..255.

    Of the 1797 images, the last fifth of every class in file order is the test split: 1438 images
    to train on and 359 to test.
    """
    from sklearn.datasets import load_digits  # a second to import, needed here only

    digits = load_digits()
    labels = digits.target.astype(np.int32)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        test[members[round(0.8 * len(members)) :]] = True
    try:
        chosen = {"train": ~test, "test": test}[split]
    except KeyError:
        raise missing_split("digits", split, ["train", "test"]) from None
    grey = np.round(digits.images[chosen] * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey[..., None], 3, axis=-1)
    return ArraySource(images, labels[chosen], tuple(str(digit) for digit in range(10)))


def open_npz(path: Path, split: str) -> ArraySource:
    """Opens a file with `x_<split>` (N, H, W[, 3]) and `y_<split>` (N,), or `images` and `labels`.

    Raises:
      UserError: the file, the split or a fitting shape is missing.
    """
    if not path.is_file():
        raise UserError(f"no file {path}: give --config.data.dir=FILE.npz or the folder it is in")
    with np.load(path) as arrays:
        if split in ("", "all") and "images" in arrays:
            names = ("images", "labels")
        else:
            names = (f"x_{split}", f"y_{split}")
        if not all(name in arrays for name in names):
            splits = sorted(name[2:] for name in arrays if name.startswith("x_"))
            raise missing_split(str(path), split, splits)
        images, labels = (arrays[name] for name in names)
        class_names = arrays.get("class_names")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(labels):
        raise UserError(
            f"{path}: {names[0]} is {images.dtype} {images.shape} with {len(labels)} labels; "
            "it must be uint8 (N, H, W, 3) or (N, H, W), with a label for each image"
        )
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    labels = labels.reshape(-1).astype(np.int32)
    if class_names is None:
        class_names = range(int(labels.max()) + 1)
    return ArraySource(images, labels, tuple(str(name) for name in class_names))


def npz_path(data: Mapping[str, Any]) -> Path:
    """Returns the `.npz` file that a config names: `dir` itself, or `name`.npz in it."""
    if data["dir"] is None:
        raise UserError("data.source 'npz' needs --config.data.dir=FILE.npz")
    path = Path(data["dir"]).expanduser()
    return path / f"{data['name']}.npz" if path.is_dir() else path
