"""Exact counts: of the paper's nets, and those that public CIFAR tables print."""

import math

import jax.numpy as jnp
import pytest

from vgg_jax.models.summary import receptive_field, summarize_model
from vgg_jax.models.vgg import VGG

# variant: convolutions, total, total with batch norm, GMAC at 224, 10^6 outputs of conv and fc.
# The totals are torchvision's to the unit; the paper's table 2 has them in millions.
IMAGENET = {
    "A": (9_220_480, 132_863_336, 132_868_840, 7.609, 7.435),
    "A-LRN": (9_220_480, 132_863_336, 132_868_840, 7.609, 7.435),
    "B": (9_404_992, 133_047_848, 133_053_736, 11.308, 12.252),
    "C": (9_996_096, 133_638_952, 133_647_400, 11.771, 13.557),
    "D": (14_714_688, 138_357_544, 138_365_992, 15.470, 13.557),
    "E": (20_024_384, 143_667_240, 143_678_248, 19.632, 14.861),
    "shallow-B": (10_860_672, 134_503_528, 134_506_472, 9.356, 6.131),
}
# chenyaofo/pytorch-cifar-models, head 512-512, batch norm: 10^6 parameters and multiply-adds.
CHENYAOFO = {
    "vgg11": (9.76, 153.29),
    "vgg13": (9.94, 228.79),
    "vgg16": (15.25, 313.73),
    "vgg19": (20.57, 398.66),
}
# huyvnphan/PyTorch_CIFAR10, head 4096-4096, batch norm: 10^6 parameters.
HUYVNPHAN = {"vgg11": 28.150, "vgg13": 28.334, "vgg16": 33.647, "vgg19": 38.959}


def cifar(variant: str, head: str) -> VGG:
    return VGG(variant=variant, norm="batch", head=head, head_window=1, num_classes=10)


@pytest.mark.parametrize("variant", IMAGENET)
def test_imagenet_counts(variant: str) -> None:
    convolutions, total, total_bn, gmacs, activations = IMAGENET[variant]
    summary = summarize_model(VGG(variant=variant), 224)
    assert summary.parameters == total
    assert summary.parameters - summary.fully_connected_parameters == convolutions
    assert summarize_model(VGG(variant=variant, norm="batch"), 224).parameters == total_bn
    assert round(summary.macs / 1e9, 3) == gmacs
    assert round(summary.activations / 1e6, 3) == activations


@pytest.mark.parametrize("variant", CHENYAOFO)
def test_cifar_counts_with_head_512_512(variant: str) -> None:
    summary = summarize_model(cifar(variant, "cifar"), 32)
    assert round(summary.parameters / 1e6, 2) == CHENYAOFO[variant][0]
    assert round(summary.macs / 1e6, 2) == CHENYAOFO[variant][1]


def test_vgg16_with_head_512_512_to_the_unit() -> None:
    assert summarize_model(cifar("vgg16", "cifar"), 32).parameters == 15_253_578


@pytest.mark.parametrize("variant", HUYVNPHAN)
def test_cifar_counts_with_head_4096_4096(variant: str) -> None:
    summary = summarize_model(cifar(variant, "imagenet"), 32)
    assert round(summary.parameters / 1e6, 3) == HUYVNPHAN[variant]


def test_cifar_count_with_linear_head() -> None:
    # bearpaw/pytorch-classification, vgg19_bn on CIFAR-10
    assert round(summarize_model(cifar("vgg19", "linear"), 32).parameters / 1e6, 2) == 20.04


def test_layers_of_d() -> None:
    layers = {layer.name: layer for layer in summarize_model(VGG(), 224).layers}
    assert layers["fc6"].parameters == 102_764_544
    assert layers["conv1_1"].shape == (224, 224, 64)
    assert layers["conv1_1"].macs == 224 * 224 * 27 * 64
    assert layers["pool5"].shape == (7, 7, 512)
    assert layers["pool5"].parameters == layers["pool5"].macs == 0
    # Known of VGG-16: conv5_3 sees 196 pixels, pool5 212.
    assert layers["conv5_3"].receptive_field == 196
    assert layers["pool5"].receptive_field == 212
    assert layers["fc6"].receptive_field == layers["fc8"].receptive_field == 212 + 6 * 32
    # In order of computation, nothing twice.
    assert list(layers)[:4] == ["conv1_1", "conv1_2", "pool1", "conv2_1"]
    assert list(layers)[-4:] == ["pool5", "fc6", "fc7", "fc8"]


@pytest.mark.parametrize("remat", [False, True])
def test_normalisations_have_their_own_lines(remat: bool) -> None:
    model = VGG(stages=("3-4, LRN", "3-8 x2"), norm="batch", head="linear", remat=remat)
    names = [layer.name for layer in summarize_model(model, 28).layers]
    assert names == [
        *("conv1_1", "bn1_1", "lrn1_1", "pool1"),
        *("conv2_1", "bn2_1", "conv2_2", "bn2_2", "pool2", "fc8"),
    ]


def test_bytes_follow_the_compute_dtype() -> None:
    wide, half = (summarize_model(VGG(dtype=d), 224) for d in (jnp.float32, jnp.bfloat16))
    assert all(layer.activation_bytes == 4 * math.prod(layer.shape) for layer in wide.layers)
    assert half.activation_bytes * 2 == wide.activation_bytes


def test_macs_of_a_score_map_and_subsampling() -> None:
    model = VGG(pooling="none")
    small, large = summarize_model(model, 224), summarize_model(model, 256)
    head = [layer.macs for layer in small.layers[-3:]]
    assert [layer.macs for layer in large.layers[-3:]] == [4 * macs for macs in head]
    pool = next(layer for layer in small.layers if layer.name == "pool1")
    assert pool.receptive_field == 5  # a stride alone sees no further


@pytest.mark.parametrize("stacked", [1, 2, 3, 5])
def test_stacked_3x3_see_one_larger_window(stacked: int) -> None:
    assert receptive_field([(3, 1)] * stacked) == 2 * stacked + 1


def test_receptive_field_grows_by_the_stride() -> None:
    assert receptive_field([]) == 1
    assert receptive_field([(3, 1), (2, 2), (3, 1)]) == 8
