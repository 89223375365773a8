"""Where examples come from: `open_source` gives random access to a split of a data set."""

from typing import Any

import numpy as np

from vgg_jax.data.arrays import ArraySource, open_digits, open_npz
from vgg_jax.data.folder import open_folder
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError, unknown_name

__all__ = ["SOURCES", "ArraySource", "Source", "check_labels", "open_source"]

SOURCES = ("digits", "folder", "npz", "tfds")


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
        case "npz":
            return open_npz(data.dir, data.name, split)
        case "folder":
            return open_folder(data.dir, split, (data.train_split, data.eval_split))
        case "tfds":
            from vgg_jax.data.tfds_copy import open_tfds  # TFDS takes a second to import

            return open_tfds(data.name, data.dir, split)
    raise unknown_name("data.source", data.source, SOURCES)


def check_labels(source: Source, num_classes: int) -> None:
    """Raises UserError where a label is outside [0, num_classes).

    Where the labels are not known beforehand, the number of class names stands for them: a TFDS
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
