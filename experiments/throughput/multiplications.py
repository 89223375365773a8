"""How many multiplications a step makes in matrix products and convolutions on a CPU.

Winograd's algorithm makes fewer than the layers' definition has, and maps of few positions need no
products with the zeros around them. At the rate of a matrix product they are the least time that
the step can take with the formulations that `vgg_jax/ops/conv.py` chooses.
"""

import itertools

from experiments.throughput.contestants import Workload
from vgg_jax.ops import conv


def multiplications(work: Workload, mode: str) -> int:
    """Returns the number for a batch: of the forward pass, and of both gradients in training.

    Transforms, norms, activations, pooling and the optimiser are not counted.
    """
    total, channels = 0, 3
    for stage, specs in enumerate(work.stages):
        size = work.image_size >> stage
        for spec in specs:
            images = work.batch_size, size, size, channels
            kernel = spec.kernel, spec.kernel, channels, spec.channels
            forward = _of_formulation(conv.along_images(images, kernel), images, kernel)
            total += forward
            if mode == "train":
                total += _of_formulation(conv.along_kernel(images, kernel), images, kernel)
                total += forward if channels > 3 else 0  # nothing asks for the images' gradient
            channels = spec.channels
    features = channels * (work.image_size >> len(work.stages)) ** 2
    head = sum(a * b for a, b in itertools.pairwise((features, *work.head)))
    return total + work.batch_size * head * (3 if mode == "train" else 1)


def _of_formulation(
    formulation: conv.Formulation, images: tuple[int, ...], kernel: tuple[int, ...]
) -> int:
    n, height, width, channels = images
    size, features = kernel[0], kernel[-1]
    if formulation is conv.winograd:
        positions = 36 * -(-height // 4) * -(-width // 4)
    elif formulation in (conv.taps, conv.positions):  # those alone that lie in the map
        positions = _pairs(height, size) * _pairs(width, size)
    else:
        positions = size * size * height * width
    return n * channels * features * positions


def _pairs(extent: int, size: int) -> int:
    """Pairs of an output and an input that a kernel joins along an axis."""
    return sum(
        extent - abs(offset)
        for offset in range(-(size // 2), size // 2 + 1)
        if abs(offset) < extent
    )
