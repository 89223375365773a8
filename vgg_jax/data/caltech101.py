"""Caltech-101 (Fei-Fei, Fergus & Perona 2004) in one zip archive, read without unpacking it.

The archive holds `CLASS/image.jpg` and `splits.csv` with the columns split, part and file: split a
number, part "train" or "test", file the name of an image in the archive.
"""

import csv
import functools
import io
import os
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from vgg_jax.data.arrays import missing_split
from vgg_jax.data.preprocessing import open_image
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError

SPLITS_FILE = "splits.csv"
ALL = "all"  # the images of all splits, each once


class Caltech101(Source):
    """Images of an archive, decoded when they are asked for.

    Attributes:
      archive: path of the zip file.
      files: names of the images in it.
      class_names: names of the folders of all splits, sorted.
      labels: int32 (N,), the index of each image's folder.
    """

    labels: np.ndarray

    def __init__(self, archive: Path, files: tuple[str, ...], class_names: tuple[str, ...]) -> None:
        index_of = {name: index for index, name in enumerate(class_names)}
        self.archive = os.fspath(archive)
        self.files = files
        self.class_names = class_names
        self.labels = np.array([index_of[class_of(file)] for file in files], np.int32)

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        name = f"{self.archive}: {self.files[index]}"
        try:
            encoded = _opened(self.archive, os.getpid()).read(self.files[index])
        except (KeyError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"cannot read {name}: {error}; copy the archive again") from error
        return open_image(encoded, min_side=min_side, name=name), int(self.labels[index])


def open_caltech101(archive: str | os.PathLike[str] | None, split: str) -> Caltech101:
    """Opens a split of the archive.

    Args:
      archive: path of the zip file.
      split: "train-0" and "test-0" for the parts of split 0, and so on; "all" for the images of all
        splits, each once, those of split 0 first.

    Raises:
      UserError: the archive is missing or damaged, or has no such split.
    """
    if archive is None:
        raise UserError("data.source 'caltech101' needs --config.data.dir=caltech101.zip")
    path = Path(archive).expanduser()
    files_of = _splits(path)
    every = tuple(dict.fromkeys(file for files in files_of.values() for file in files))
    if split != ALL and split not in files_of:
        raise missing_split(str(path), split, [*sorted(files_of), ALL])
    class_names = tuple(sorted({class_of(file) for file in every}))
    return Caltech101(path, every if split == ALL else files_of[split], class_names)


def class_of(file: str) -> str:
    """Returns the folder of an image in the archive, which names its class."""
    return file.rpartition("/")[0]


def _splits(path: Path) -> dict[str, tuple[str, ...]]:
    """Returns {"train-0": names of its images, "test-0": ..., "train-1": ...}."""
    if not path.is_file():
        raise UserError(f"no file {path}: give the archive, caltech101.zip")
    files_of: dict[str, list[str]] = {}
    try:
        table = _opened(os.fspath(path), os.getpid()).read(SPLITS_FILE).decode()
        rows = list(csv.DictReader(io.StringIO(table)))
        for row in sorted(rows, key=lambda row: int(row["split"])):
            files_of.setdefault(f"{row['part']}-{row['split']}", []).append(row["file"])
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} is no archive of Caltech-101 with {SPLITS_FILE} (split, part, file): {error}"
        ) from error
    return {split: tuple(files) for split, files in files_of.items()}


@functools.lru_cache(maxsize=4)
def _opened(path: str, process: int) -> zipfile.ZipFile:
    # Once a process: a forked worker shares its parent's place in an open file.
    return zipfile.ZipFile(path)
