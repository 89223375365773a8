"""A protocol buffer read: numbers of any length, shapes old and new, bytes that end early."""

import struct

import numpy as np
import pytest

from tests.weights.files import blob, caffemodel, field, message, varint
from vgg_jax.weights.protobuf import ProtobufError, read_caffemodel

RNG = np.random.default_rng(0)
ARRAYS = {
    "one/W": RNG.normal(size=(2, 3, 1, 2)).astype(np.float32),
    "one/b": RNG.normal(size=2).astype(np.float32),
    "two/W": RNG.normal(size=(300, 1)).astype(np.float32),  # a length of two bytes
    "two/b": RNG.normal(size=300).astype(np.float32),
}


@pytest.fixture
def read(tmp_path):
    def read(content: bytes):
        (tmp_path / "net.caffemodel").write_bytes(content)
        return read_caffemodel(tmp_path / "net.caffemodel")

    return read


def one_layer(*blobs: bytes) -> bytes:
    return message(100, field(1, b"fc8") + b"".join(message(7, each) for each in blobs))


def shape(*lengths: int) -> bytes:
    return message(7, field(1, b"".join(map(varint, lengths))))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
def test_blobs_come_back_to_the_bit(read, legacy, packed):
    blobs = read(caffemodel(ARRAYS, legacy=legacy, packed=packed))
    assert blobs.keys() == {"one/0", "one/1", "two/0", "two/1"}
    for name, wanted in ARRAYS.items():
        array, is_legacy = blobs[name.replace("W", "0").replace("b", "1")]
        assert is_legacy == legacy
        assert array.shape == ((1,) * (4 - wanted.ndim) + wanted.shape if legacy else wanted.shape)
        np.testing.assert_array_equal(array.reshape(wanted.shape), wanted)


def test_double_precision_and_lengths_that_are_not_packed(read):
    values = RNG.normal(size=(2, 3))
    lengths = message(7, b"".join(varint(1 << 3) + varint(n) for n in values.shape))
    ((array, legacy),) = read(one_layer(lengths + field(8, values.tobytes()))).values()
    assert (array.dtype, legacy) == (np.float64, False)
    np.testing.assert_array_equal(array, values)


def test_fields_that_are_not_asked_for_are_passed_over(read):
    unknown = (
        varint(99 << 3 | 0) + varint(2**64 - 1),  # the longest number
        varint(99 << 3 | 1) + struct.pack("<d", 1.5),
        varint(99 << 3 | 5) + struct.pack("<f", 1.5),
        field(2**28, b"some text"),  # a long field number
    )
    plain = blob(ARRAYS["one/b"], legacy=False, packed=True)
    for extra in unknown:
        ((array, _),) = read(extra + one_layer(extra + plain) + extra).values()
        np.testing.assert_array_equal(array, ARRAYS["one/b"])


def test_the_last_name_of_a_layer_counts(read):
    layer = field(1, b"old") + field(1, "n\u00e9w".encode())
    layer += message(7, blob(ARRAYS["one/b"], legacy=False, packed=True))
    assert read(message(100, layer)).keys() == {"n\u00e9w/0"}


def test_a_file_that_ends_early_is_an_error_wherever_it_ends(read):
    """Between two layers it is a whole network, of fewer layers: that the caller has to notice."""
    content = caffemodel({k: v for k, v in ARRAYS.items() if k[:3] == "one"}, legacy=False)
    whole = read(content)
    for length in range(len(content)):
        with pytest.raises(ProtobufError):
            read(content[:length])
    assert whole.keys() == {"one/0", "one/1"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "it is empty"),
        (field(1, b"VGG"), "no layer in it has weights"),
        (b"\xff" * 11, "a number is too long"),
        (b"\xff", "it ends inside a number"),
        (varint(9 << 3 | 3), "wire type 3"),
        (field(0, b"x"), "passes the end"),
        (varint(1 << 3 | 2) + varint(2**40), "passes the end"),
        (varint(100 << 3) + varint(1), "a number stands where a message should"),
        (one_layer(shape(3) + field(5, bytes(8))), r"fc8/0 has 8 bytes for shape \(3,\)"),
        (one_layer(shape(2**40, 2**40) + field(5, bytes(4))), "fc8/0 has 4 bytes"),
    ],
)
def test_what_is_no_network_is_told(read, content, told):
    with pytest.raises(ProtobufError, match=told):
        read(content)
