"""Weight files as their programs write them, made here, and the network by plain NumPy.

Nothing of `vgg_jax` is used: names, shapes and orders are spelled out a second time.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

CONVS_PER_STAGE = {"A": (1, 1, 2, 2, 2), "B": (2,) * 5, "D": (2, 2, 3, 3, 3), "E": (2, 2, 4, 4, 4)}
CHANNELS = (2, 4, 8, 16, 16)  # those of Table 1 at width 1/32
HIDDEN = (6, 5)
CLASSES = 7
SIDE = 64  # pixels: the last map is 2x2, so that flatten orders differ

# features.N of every convolution in torchvision's vgg11, vgg13, ... without and with batch norm.
TORCHVISION = {
    ("A", "none"): (0, 3, 6, 8, 11, 13, 16, 18),
    ("B", "none"): (0, 2, 5, 7, 10, 12, 15, 17, 20, 22),
    ("D", "none"): (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ("E", "none"): (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
    ("A", "batch"): (0, 4, 8, 11, 15, 18, 22, 25),
    ("B", "batch"): (0, 3, 7, 10, 14, 17, 21, 24, 28, 31),
    ("D", "batch"): (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
    ("E", "batch"): (0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49),
}
CLASSIFIER = {
    "torchvision": ("classifier.0", "classifier.3", "classifier.6"),
    "timm": ("pre_logits.fc1", "pre_logits.fc2", "head.fc"),
}

Arrays = dict[str, np.ndarray]


def model_fields(variant: str, norm: str = "none") -> dict[str, Any]:
    """What `build_model` wants for the networks of this file, at SIDE pixels."""
    return {
        "variant": variant,
        "norm": norm,
        "width": 1 / 32,
        "head_features": HIDDEN,
        "num_classes": CLASSES,
    }


def conv_shapes(variant: str) -> Iterator[tuple[int, int, int, int]]:
    """Stage, place, channels in and out of every convolution."""
    before = 3
    for stage, (count, channels) in enumerate(
        zip(CONVS_PER_STAGE[variant], CHANNELS, strict=True), 1
    ):
        for place in range(1, count + 1):
            yield stage, place, before, channels
            before = channels


def dense_shapes() -> Iterator[tuple[int, int]]:
    """Inputs and outputs of the three fully connected layers."""
    sizes = (CHANNELS[-1] * (SIDE // 32) ** 2, *HIDDEN, CLASSES)
    yield from itertools.pairwise(sizes)


def random_array(rng: np.random.Generator, *shape: int, fan_in: int = 1) -> np.ndarray:
    return (rng.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32)


def torch_state(variant: str, norm: str, layout: str) -> Arrays:
    """The state dictionary of torchvision or timm."""
    rng = np.random.default_rng(0)
    state: Arrays = {}
    numbers = TORCHVISION[variant, norm]
    for index, (_, _, before, after) in zip(numbers, conv_shapes(variant), strict=True):
        state[f"features.{index}.weight"] = random_array(
            rng, after, before, 3, 3, fan_in=9 * before
        )
        state[f"features.{index}.bias"] = random_array(rng, after)
        if norm == "batch":
            bn = f"features.{index + 1}"
            state[f"{bn}.weight"] = random_array(rng, after) + 1
            state[f"{bn}.bias"] = random_array(rng, after)
            state[f"{bn}.running_mean"] = random_array(rng, after)
            state[f"{bn}.running_var"] = random_array(rng, after) ** 2 + 0.5
            state[f"{bn}.num_batches_tracked"] = np.zeros((), np.int64)
    for name, (before, after) in zip(CLASSIFIER[layout], dense_shapes(), strict=True):
        weight = random_array(rng, after, before, fan_in=before)
        if layout == "timm" and name != "head.fc":
            side = SIDE // 32 if name.endswith("fc1") else 1
            weight = weight.reshape(after, -1, side, side)
        state[f"{name}.weight"] = weight
        state[f"{name}.bias"] = random_array(rng, after)
    return state


def torch_logits(images: np.ndarray, state: Arrays, variant: str, norm: str, layout: str) -> Any:
    """The network on images (N, 3, H, W), already normalised, channels first as torch has them."""
    indices = iter(TORCHVISION[variant, norm])
    x = images.astype(np.float64)
    for count in CONVS_PER_STAGE[variant]:
        for _ in range(count):
            index = next(indices)
            x = convolve(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"])
            if norm == "batch":
                weight, bias, mean, var = (
                    state[f"features.{index + 1}.{leaf}"][:, None, None].astype(np.float64)
                    for leaf in ("weight", "bias", "running_mean", "running_var")
                )
                x = (x - mean) / np.sqrt(var + 1e-5) * weight + bias
            x = np.maximum(x, 0)
        x = pool(x)
    x = x.reshape(len(x), -1)
    matrices = [
        (state[f"{n}.weight"].reshape(len(state[f"{n}.bias"]), -1).T, state[f"{n}.bias"])
        for n in CLASSIFIER[layout]
    ]
    return classify(x, matrices)


def channels_last_arrays(variant: str) -> Arrays:
    """Arrays of Keras and TensorFlow: "conv1_1/kernel" HWIO, "fc6/kernel" (in, out), biases."""
    rng = np.random.default_rng(1)
    arrays: Arrays = {}
    for stage, place, before, after in conv_shapes(variant):
        shape = (3, 3, before, after)
        arrays[f"conv{stage}_{place}/kernel"] = random_array(rng, *shape, fan_in=9 * before)
        arrays[f"conv{stage}_{place}/bias"] = random_array(rng, after)
    for name, (before, after) in zip(("fc6", "fc7", "fc8"), dense_shapes(), strict=True):
        arrays[f"{name}/kernel"] = random_array(rng, before, after, fan_in=before)
        arrays[f"{name}/bias"] = random_array(rng, after)
    return arrays


def channels_last_logits(images: np.ndarray, arrays: Arrays, variant: str) -> np.ndarray:
    """The network on images (N, H, W, 3), the last map flattened as height, width, channel."""
    x = images.astype(np.float64).transpose(0, 3, 1, 2)
    for stage, count in enumerate(CONVS_PER_STAGE[variant], 1):
        for place in range(1, count + 1):
            kernel = arrays[f"conv{stage}_{place}/kernel"].transpose(3, 2, 0, 1)
            x = np.maximum(convolve(x, kernel, arrays[f"conv{stage}_{place}/bias"]), 0)
        x = pool(x)
    x = x.transpose(0, 2, 3, 1).reshape(len(x), -1)
    names = ("fc6", "fc7", "fc8")
    return classify(x, [(arrays[f"{n}/kernel"], arrays[f"{n}/bias"]) for n in names])


def convolve(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(N, C, H, W) with (O, C, 3, 3), zero padding."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True) + bias[:, None, None]


def pool(x: np.ndarray) -> np.ndarray:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).max((3, 5))


def classify(x: np.ndarray, matrices: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    for number, (matrix, bias) in enumerate(matrices, 1):
        x = x @ matrix + bias
        if number < len(matrices):
            x = np.maximum(x, 0)
    return x


# --- Containers -------------------------------------------------------------------------------

KERAS_DENSE = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


def keras_layers(arrays: Arrays) -> dict[str, list[np.ndarray]]:
    """[kernel, bias] of each layer by Keras's name."""
    layers = {}
    for name in dict.fromkeys(key.split("/")[0] for key in arrays):
        stage_place = name.removeprefix("conv").split("_")
        keras = KERAS_DENSE.get(name) or "block{}_conv{}".format(*stage_place)
        layers[keras] = [arrays[f"{name}/kernel"], arrays[f"{name}/bias"]]
    return layers


def write_keras(path: Path, arrays: Arrays, container: str) -> None:
    """Container "legacy", "model" (the same inside a whole model) or "keras3"."""
    import h5py

    with h5py.File(path, "w") as file:
        layers = keras_layers(arrays)
        if container == "keras3":
            for number, (name, tensors) in enumerate(layers.items()):
                group = file.create_group(f"layers/layer_{number}/vars")
                group.attrs["name"] = name
                for index, tensor in enumerate(tensors):
                    group[str(index)] = tensor
            return
        root = file.create_group("model_weights") if container == "model" else file
        root.attrs["layer_names"] = [b"block1_pool", *(name.encode() for name in layers)]
        root.create_group("block1_pool").attrs["weight_names"] = np.zeros(0)
        for name, tensors in layers.items():
            group = root.create_group(name)
            names = [f"{name}/{name}_{leaf}_1:0" for leaf in ("W", "b")]
            group.attrs["weight_names"] = [each.encode() for each in names]
            for each, tensor in zip(names, tensors, strict=True):
                group[each] = tensor


def caffe_arrays(variant: str) -> Arrays:
    """Blobs of the authors' networks: "conv1_1/W" OIHW, "fc6/W" (out, in), "/b"."""
    state = torch_state(variant, "none", "torchvision")
    names = [f"conv{stage}_{place}" for stage, place, _, _ in conv_shapes(variant)]
    return {
        f"{name}/{'b' if torch.endswith('bias') else 'W'}": array
        for name, (torch, array) in zip(
            [name for name in (*names, "fc6", "fc7", "fc8") for _ in "Wb"],
            state.items(),
            strict=True,
        )
    }


def caffemodel(arrays: Arrays, *, legacy: bool, packed: bool = True) -> bytes:
    """A NetParameter as protobuf writes it, with the old layers and shapes or the new ones."""
    net = field(1, b"VGG")
    net += message(2 if legacy else 100, field(4 if legacy else 1, b"data"))  # no blobs
    for name in dict.fromkeys(key.split("/")[0] for key in arrays):
        layer = field(4 if legacy else 1, name.encode())
        layer += varint(5 << 3) + varint(4) if legacy else field(2, b"Convolution")
        for leaf in "Wb":
            array = arrays[f"{name}/{leaf}"]
            layer += message(6 if legacy else 7, blob(array, legacy=legacy, packed=packed))
        net += message(2 if legacy else 100, layer)
    return net


def blob(array: np.ndarray, *, legacy: bool, packed: bool) -> bytes:
    if legacy:
        lengths = (1,) * (4 - array.ndim) + array.shape
        content = b"".join(varint(n << 3) + varint(d) for n, d in enumerate(lengths, 1))
    else:
        content = message(7, field(1, b"".join(varint(d) for d in array.shape)))
    if packed:
        return content + field(5, array.astype("<f4").tobytes())
    return content + b"".join(varint(5 << 3 | 5) + v.tobytes() for v in array.astype("<f4").ravel())


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


message = field
