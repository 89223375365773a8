"""Where examples come from: `open_source` gives random access to a split of a data set."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from vgg_jax.data.arrays import ArraySource, open_digits, open_npz
from vgg_jax.data.caltech101 import open_caltech101
from vgg_jax.data.folder import open_folder
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError, unknown_name

__all__ = [
    "MEMORY",
    "SOURCES",
    "ArraySource",
    "Source",
    "check_labels",
    "data_name",
    "fingerprint",
    "open_source",
]

MEMORY = "arrays"  # handed to `vgg_jax.fit`; no config can open them
SOURCES = ("caltech101", "digits", "folder", "npz", "tfds", MEMORY)


def open_source(data: Any, split: str) -> Source:
    """Opens a split of the data set that a config names.

    Args:
      data: `config.data`; read are `source`, `name`, `dir` and, for the class index of folders,
        `train_split` and `eval_split`.
      split: name of the split.

    Raises:
      UserError: no such source, data set or split, with what to type instead.
    """
    match data.source:
        case "digits":
            return open_digits(split)
        case "caltech101":
            return open_caltech101(data.dir, split)
        case "npz":
            return open_npz(data.dir, data.name, split)
        case "folder":
            return open_folder(data.dir, split, (data.train_split, data.eval_split))
        case "tfds":
            from vgg_jax.data.tfds_copy import open_tfds  # TFDS takes a second to import

            return open_tfds(data.name, data.dir, split)
        case "arrays":
            raise UserError(
                f"data.source={MEMORY} are arrays of a Python program: call vgg_jax.fit with them "
                "and with workdir=,\nwhich resumes the run or returns what it learnt"
            )
    raise unknown_name("data.source", data.source, SOURCES)


def data_name(data: Any) -> str:
    """Returns the name of the data set that a config names, to print beside its numbers.

    Of files of the user's, that of the folder or file; `data.name` is a preset's then.
    """
    match data.source:
        case "folder" | "npz" if data.dir is not None:
            path = Path(data.dir).expanduser().resolve()
            if path.is_file():
                return path.stem
            return data.name if data.source == "npz" else path.name
        case "caltech101" | "digits":
            return data.source
    return data.name


def fingerprint(source: Source) -> str:
    """Returns eight hexadecimal digits that change, in all likelihood, if the data does.

    A CRC-32 of the number of examples, the class names, the labels that are known, and the pixels
    and labels of sixteen evenly spaced examples.

    Raises:
      UserError: one of these cannot be decoded.
    """
    checksum = zlib.crc32(repr((len(source), source.class_names)).encode())
    if source.labels is not None:
        checksum = zlib.crc32(np.asarray(source.labels, np.int32).tobytes(), checksum)
    for index in np.unique(np.linspace(0, len(source) - 1, 16).astype(int)):
        example = source[int(index)]
        for value in (example["image"], np.int32(example["label"])):
            checksum = zlib.crc32(value.tobytes(), checksum)
    return f"{checksum:08x}"


def check_labels(source: Source, num_classes: int) -> None:
    """Raises UserError if a label is outside [0, num_classes).

    If the labels are not known beforehand, the number of class names stands for them: a TFDS
    class label is always below it.
    """
    if source.labels is None:
        lowest, highest = 0, len(source.class_names) - 1
    else:
        lowest, highest = int(np.min(source.labels)), int(np.max(source.labels))
    if lowest < 0 or highest >= num_classes:
        raise UserError(
            f"labels run from {lowest} to {highest}, but the model has {num_classes} classes: "
            f"give --config.model.num_classes={highest + 1}, or fix the labels"
        )
