"""Image files in class folders: `dir/split/class/image.jpg`."""

import csv
import functools
import importlib.resources
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from vgg_jax.data.arrays import missing_split
from vgg_jax.data.preprocessing import open_image
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError

EXTENSIONS = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))


@functools.cache
def imagenet_classes() -> dict[str, str]:
    """Returns the wnid and name of the 1000 ILSVRC-2012 classes, in the order of their index."""
    file = importlib.resources.files("vgg_jax.data") / "imagenet_classes.csv"
    with file.open(encoding="utf-8") as lines:
        return {row["wnid"]: row["name"] for row in csv.DictReader(lines)}


class FolderSource(Source):
    """Image files, decoded when they are asked for.

    Attributes:
      class_names: the folder names, sorted; for ImageNet's wnids the 1000 readable names.
      labels: int32 (N,), the index of each file's class folder.
    """

    labels: np.ndarray

    def __init__(
        self, folder: Path, files: list[str], labels: np.ndarray, class_names: tuple[str, ...]
    ) -> None:
        self._folder = os.fspath(folder)
        # One array of bytes, which goes to a worker process at once; a list of a million names
        # does not.
        self._files = np.array([os.fsencode(file) for file in files])
        self.labels = labels
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self._files)

    def path(self, index: int) -> str:
        """Returns the path of an example's file."""
        return os.path.join(self._folder, os.fsdecode(self._files[index]))  # noqa: PTH118

    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        return open_image(self.path(index), min_side=min_side), int(self.labels[index])


def open_folder(data_dir: str | None, split: str, all_splits: Iterable[str]) -> FolderSource:
    """Opens the class folders of a split.

    The index of a class is its place among the sorted folder names of all splits, so that a class
    missing from one split keeps its index. Where every name is a wnid of ILSVRC-2012, it is the
    class's place among the 1000.

    Args:
      data_dir: the folder that holds the splits.
      split: folder name of the split, "" where `data_dir` itself holds the class folders.
      all_splits: names of the splits that share one class index.

    Raises:
      UserError: the folder, the split or every image is missing.
    """
    if data_dir is None:
        raise UserError("data.source 'folder' needs --config.data.dir=DIR, DIR/SPLIT/CLASS/*.jpg")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        held = "SPLIT/CLASS/*.jpg" if split else "CLASS/*.jpg"
        raise UserError(f"no folder {root}: give one that holds {held}")
    if not (root / split).is_dir():
        raise missing_split(str(root), split, _subfolders(root))
    names = sorted({name for each in {split, *all_splits} for name in _subfolders(root / each)})
    if names and imagenet_classes().keys() >= set(names):
        index_of = {wnid: index for index, wnid in enumerate(imagenet_classes())}
        class_names = tuple(imagenet_classes().values())
    else:
        index_of = {name: index for index, name in enumerate(names)}
        class_names = tuple(names)

    files: list[str] = []
    labels: list[int] = []
    for name in _subfolders(root / split):
        members = sorted(
            entry.name
            for entry in os.scandir(root / split / name)
            if Path(entry.name).suffix.lower() in EXTENSIONS
        )
        files += [f"{name}/{member}" for member in members]
        labels += [index_of[name]] * len(members)
    if not files:
        raise UserError(
            f"no images in the class folders of {root / split}: expected "
            f"{root / split}/CLASS/*.jpg (or {', '.join(sorted(EXTENSIONS - {'.jpg'}))})"
        )
    return FolderSource(root / split, files, np.array(labels, np.int32), class_names)


def _subfolders(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    )
