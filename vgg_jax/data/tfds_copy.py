"""TFDS data sets from an array_record copy on disk, read without TensorFlow."""

import difflib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from PIL import Image
from tensorflow_datasets.core.data_sources.base import DataSource
from tensorflow_datasets.proto import tf_example_pb2

from vgg_jax.data.arrays import IN_MEMORY_BYTES, ArraySource, missing_split
from vgg_jax.data.preprocessing import open_image
from vgg_jax.data.source import Source
from vgg_jax.errors import UserError

FILE_FORMAT = tfds.core.FileFormat.ARRAY_RECORD

_CHUNK = 1000  # records that a thread reads at a time
_DAMAGED = (RuntimeError, IndexError, ValueError, DecodeError)  # of array_record, protobuf


class TfdsSource(Source):
    """The records of a split, decoded when they are asked for; labels are read with them."""

    labels = None

    def __init__(self, records: DataSource, name: str, class_names: tuple[str, ...]) -> None:
        self._records = records
        self._name = name
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self._records)

    def load(self, index: int, min_side: int | None = None) -> tuple[Image.Image, int]:
        name = f"example {index} of {self._name}"
        try:
            encoded, label = _parse(self._records[index])
        except _DAMAGED as error:
            raise UserError(f"{name} cannot be read ({error}): write the data set anew") from error
        return open_image(encoded, min_side=min_side, name=name), label


def tfds_folder(data_dir: str | None) -> Path:
    """Returns the folder of TFDS data sets: `data_dir`, `$TFDS_DATA_DIR` or TFDS's default."""
    return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def find_builder(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    """Returns TFDS's object for a data set, whether or not a copy of it is in `folder`.

    Raises:
      UserError: TFDS knows no such data set, or the copy there is not of array_record.
    """
    try:
        builder = tfds.builder(name, data_dir=folder, try_gcs=False)
    except tfds.core.registered.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        nearest = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        hint = f"; the nearest names are {', '.join(nearest)}" if nearest else ""
        raise UserError(f"TFDS knows no data set {name!r}{hint}") from error
    except (ValueError, AssertionError) as error:  # an unknown config, an unknown version
        raise UserError(f"TFDS cannot open {name!r}: {str(error).splitlines()[0]}") from error
    if is_prepared(builder) and builder.info.file_format is not FILE_FORMAT:
        raise UserError(
            f"{builder.data_path} is stored as {builder.info.file_format.value}, not as "
            f"{FILE_FORMAT.value}; to write it into another folder:\n"
            f"python -m vgg_jax.prepare {name} --data_dir=DIR"
        )
    return builder


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    """Returns whether the data set's copy is there, without the warnings of TFDS's own test."""
    return bool(builder.info.splits)


def open_tfds(name: str, data_dir: str | None, split: str) -> Source:
    """Opens a split: in memory if all images have one size and take at most 1 GiB.

    Args:
      name: of the data set, as TFDS writes it: "cifar10", "imagenette/320px-v2".
      data_dir: see `tfds_folder`.
      split: name of the split, or a part such as "train[:45000]".

    Raises:
      UserError: no prepared copy, no such split, or no set of labelled images.
    """
    folder = tfds_folder(data_dir)
    builder = find_builder(name, folder)
    if not is_prepared(builder):
        raise UserError(
            f"no data set {name} in {folder}; to download and write it:\n"
            f"python -m vgg_jax.prepare {name} --data_dir={folder}"
        )
    info = builder.info
    if not {"image", "label"} <= info.features.keys():
        raise UserError(f"{name} is no set of images with one class label each")
    try:
        # Raw, because TFDS's own parser of a record takes longer than decoding a small image.
        records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
    except ValueError as error:
        raise missing_split(name, split, list(info.splits)) from error
    class_names = tuple(info.features["label"].names)
    height, width, _ = info.features["image"].shape
    if height and width and len(records) * height * width * 3 <= IN_MEMORY_BYTES:
        return _in_memory(records, f"{name} {split}", (height, width), class_names)
    return TfdsSource(records, f"{name} {split}", class_names)


def _parse(record: bytes) -> tuple[bytes, int]:
    """Returns the encoded image and the label of a serialised tf.train.Example."""
    feature = tf_example_pb2.Example.FromString(record).features.feature
    return feature["image"].bytes_list.value[0], feature["label"].int64_list.value[0]


def _in_memory(
    records: DataSource, name: str, size: tuple[int, int], class_names: tuple[str, ...]
) -> ArraySource:
    images = np.empty((len(records), *size, 3), np.uint8)
    labels = np.empty(len(records), np.int32)

    def decode(start: int) -> None:
        indices = range(start, min(start + _CHUNK, len(records)))
        try:
            found = [_parse(record) for record in records.__getitems__(indices)]
        except _DAMAGED as error:
            raise UserError(f"{name} cannot be read ({error}): write the data set anew") from error
        for index, (encoded, label) in zip(indices, found, strict=True):
            # OpenCV, because it decodes a small PNG several times as fast as Pillow, on any
            # number of threads: CIFAR-10 is 60,000 of them, between the command and its first step.
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
            if image is None:
                raise UserError(f"example {index} of {name} is no image: write the data set anew")
            images[index], labels[index] = image, label

    with ThreadPoolExecutor() as threads:
        list(threads.map(decode, range(0, len(records), _CHUNK)))
    return ArraySource(images, labels, class_names)
