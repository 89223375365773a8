"""Reads the blobs of a `.caffemodel` without Caffe: the few fields of its protocol buffer.

The wire format (protobuf.dev/programming-guides/encoding): a message is a sequence of fields, each
a varint key, number * 8 + wire type, and a value. The fields read here, from caffe.proto:

    NetParameter       layers = 2 (V1LayerParameter), layer = 100 (LayerParameter)
    V1LayerParameter   name = 4, blobs = 6
    LayerParameter     name = 1, blobs = 7
    BlobProto          num, channels, height, width = 1, 2, 3, 4; data = 5; shape = 7;
                       double_data = 8
    BlobShape          dim = 1
"""

import math
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np

_VARINT = 0
_LONGEST_VARINT = 10

# Field of NetParameter -> fields of that kind of layer: name, blobs.
_LAYER_KINDS = {2: (4, 6), 100: (1, 7)}
_LEGACY_SHAPE = (1, 2, 3, 4)
_DATA, _SHAPE, _DOUBLE_DATA = 5, 7, 8
_DIM = 1


class ProtobufError(Exception):
    """The bytes are no such message, or end too early."""


def read_caffemodel(path: str | PathLike[str]) -> dict[str, tuple[np.ndarray, bool]]:
    """Returns the blobs of every layer as {"conv1_1/0": (array, legacy), "conv1_1/1": ...}.

    Arrays are float32 or float64, views of the file. `legacy` tells that the shape is of the old
    format, which has four axes for every blob.

    Raises:
      ProtobufError: the file is no network, or ends too early.
    """
    if Path(path).stat().st_size == 0:
        raise ProtobufError("it is empty")
    blobs: dict[str, tuple[np.ndarray, bool]] = {}
    for number, layer in _fields(np.memmap(path, np.uint8, "r").data):
        if number in _LAYER_KINDS:
            name_field, blobs_field = _LAYER_KINDS[number]
            fields = list(_fields(_message(layer)))
            names = [bytes(_message(v)) for n, v in fields if n == name_field]
            name = names[-1].decode(errors="replace") if names else ""
            for index, blob in enumerate(v for n, v in fields if n == blobs_field):
                blobs[f"{name}/{index}"] = _blob(_message(blob), f"{name}/{index}")
    if not blobs:
        raise ProtobufError("no layer in it has weights")
    return blobs


def _blob(message: memoryview, name: str) -> tuple[np.ndarray, bool]:
    """Returns the array of a BlobProto, and whether its shape is legacy."""
    legacy_shape = dict.fromkeys(_LEGACY_SHAPE, 1)
    shape: list[int] | None = None
    singles: list[memoryview] = []
    doubles: list[memoryview] = []
    for number, value in _fields(message):
        if number in _LEGACY_SHAPE and isinstance(value, int):
            legacy_shape[number] = value
        elif number == _SHAPE:
            dims = [v for n, v in _fields(_message(value)) if n == _DIM]
            shape = [length for dim in dims for length in _ints(dim)]
        elif number == _DATA:
            singles.append(_message(value))  # packed, or one value a field
        elif number == _DOUBLE_DATA:
            doubles.append(_message(value))
    parts, dtype = (doubles, "<f8") if doubles else (singles, "<f4")
    raw = parts[0] if len(parts) == 1 else b"".join(parts)
    lengths = list(legacy_shape.values()) if shape is None else shape
    if len(raw) != math.prod(lengths) * np.dtype(dtype).itemsize:
        raise ProtobufError(f"{name} has {len(raw)} bytes for shape {tuple(lengths)}")
    return np.frombuffer(raw, dtype).reshape(lengths), shape is None


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields number and value of each field: an int for varints, else the bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        match wire_type:
            case 1:  # fixed64
                length = 8
            case 2:  # length-delimited
                length, position = _varint(message, position)
            case 5:  # fixed32
                length = 4
            case _:
                raise ProtobufError(f"wire type {wire_type} at byte {position}")
        if number == 0 or position + length > len(message):
            raise ProtobufError(f"a field of {length} bytes passes the end")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Returns the varint at a position and the position after it."""
    value = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        if position >= len(message):
            raise ProtobufError("it ends inside a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ProtobufError("a number is too long")


def _ints(value: int | memoryview) -> list[int]:
    """Returns the numbers of a repeated integer field, packed or not."""
    if isinstance(value, int):
        return [value]
    numbers, position = [], 0
    while position < len(value):
        number, position = _varint(value, position)
        numbers.append(number)
    return numbers


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ProtobufError("a number stands where a message should")
    return value
