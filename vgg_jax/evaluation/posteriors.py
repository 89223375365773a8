"""Class probabilities of a data set, by any protocol, scales and networks."""

import collections
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from PIL import Image

from vgg_jax.data.preprocessing import Preprocessing
from vgg_jax.data.sources import Source
from vgg_jax.errors import UserError, unknown_name
from vgg_jax.evaluation.protocols import PROTOCOLS, ViewSpec
from vgg_jax.models import VGG
from vgg_jax.weights.store import Weights

_DECODED_AHEAD = 32

_View = tuple[int, float, np.ndarray]  # example, weight in its average, pixels
_Kind = tuple[tuple[int, ...], bool]  # shape, mirrored


@functools.partial(jax.jit, static_argnames=("model", "preprocessing", "mirrored"))
def class_probabilities(
    variables: dict,
    images: jax.Array,
    *,
    model: VGG,
    preprocessing: Preprocessing,
    mirrored: bool = False,
) -> jax.Array:
    """Classifies images of one shape.

    Args:
      variables: of the network.
      images: uint8 (N, H, W, 3), RGB.
      model: the network.
      preprocessing: says how images are normalised.
      mirrored: whether to average with the mirror images.

    Returns:
      float32 (N, classes): softmax of the spatial mean of the score map.
    """
    inputs = preprocessing.normalize(images)
    logits, _ = model.apply(variables, inputs)
    probabilities = jax.nn.softmax(logits)
    if mirrored:
        flipped, _ = model.apply(variables, inputs[:, :, ::-1])
        probabilities = (probabilities + jax.nn.softmax(flipped)) / 2
    return probabilities


def posteriors(
    nets: Sequence[Weights],
    source: Source,
    *,
    protocol: str = "center",
    scales: Sequence[int],
    batch_size: int = 32,
    progress: Callable[[range], Iterable[int]] = iter,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the class probabilities and the label of every example, in order.

    Views wait until there are enough of one shape and go to the device together; what is left over
    at the end is padded to a power of two. So a shape is compiled for at most log2(batch_size) + 2
    batch sizes, and memory holds fewer than a batch of each shape beside the result.

    Args:
      nets: networks whose probabilities are averaged; they share classes and crop.
      source: labelled images.
      protocol: a name in `protocols.PROTOCOLS`.
      scales: shortest sides Q, averaged over.
      batch_size: images of the networks' own size at a time; of larger ones as many pixels.
      progress: wraps the examples' numbers as they are gone through.

    Returns:
      float32 (N, classes), and int32 (N,), as the source counts its classes.

    Raises:
      UserError: an unknown protocol, a scale below the crop, networks that do not belong together,
        or an example that cannot be decoded.
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    crop = _common_crop(nets)
    if min(scales) < crop:
        raise UserError(f"scale {min(scales)} is below the networks' crop; give {crop} or more")
    parts = PROTOCOLS[protocol]
    stride = 2 ** len(nets[0].model.conv_stages)

    result = _Averages(nets, len(source), batch_size, crop)
    labels = np.zeros(len(source), np.int32)
    examples = _decoded(source)
    for index in progress(range(len(source))):
        image, labels[index] = next(examples)
        for scale in scales:
            for part in parts:
                share = 1 / (len(scales) * len(parts) * part.count)
                for view in part.views(image, ViewSpec(scale, crop, stride)):
                    result.add(index, share, view, part.mirrored)
    result.finish()
    each = len(scales) * sum(part.count for part in parts)
    assert (result.shown == each).all(), f"not every example was shown {each} times"
    return result.sums, labels


class _Averages:
    """Adds up the probabilities of views, which it collects into batches of one shape.

    Attributes:
      sums: float32 (N, classes).
      shown: int64 (N,), views added of each example.
    """

    def __init__(self, nets: Sequence[Weights], count: int, batch_size: int, crop: int) -> None:
        self.sums = np.zeros((count, nets[0].model.num_classes), np.float32)
        self.shown = np.zeros(count, np.int64)
        self._nets = nets
        self._pixels = batch_size * crop * crop
        self._waiting: dict[_Kind, list[_View]] = collections.defaultdict(list)
        self._running: tuple[list[_View], list[jax.Array]] | None = None

    def add(self, index: int, share: float, view: np.ndarray, mirrored: bool) -> None:
        """Takes a view (h, w, 3) of example `index`, whose weight in the average is `share`."""
        queue = self._waiting[view.shape, mirrored]
        queue.append((index, share, view))
        if len(queue) == self._limit(view.shape):
            self._launch(self._waiting.pop((view.shape, mirrored)), mirrored)

    def finish(self) -> None:
        """Works off what still waits."""
        for (_, mirrored), queue in self._waiting.items():
            self._launch(queue, mirrored)
        self._collect()

    def _limit(self, shape: tuple[int, ...]) -> int:
        return max(1, self._pixels // (shape[0] * shape[1]))

    def _launch(self, views: list[_View], mirrored: bool) -> None:
        shape = views[0][2].shape
        size = min(self._limit(shape), 1 << (len(views) - 1).bit_length())
        batch = np.zeros((size, *shape), np.uint8)
        batch[: len(views)] = [view for _, _, view in views]
        launched = [
            class_probabilities(
                net.variables,
                batch,
                model=net.model,
                preprocessing=net.preprocessing,
                mirrored=mirrored,
            )
            for net in self._nets
        ]
        self._collect()  # of the batch before, while this one is computed
        self._running = views, launched

    def _collect(self) -> None:
        if self._running is None:
            return
        views, launched = self._running
        indices = [index for index, _, _ in views]
        shares = np.array([share for _, share, _ in views], np.float32) / len(self._nets)
        for probabilities in launched:
            np.add.at(self.sums, indices, np.asarray(probabilities)[: len(views)] * shares[:, None])
        np.add.at(self.shown, indices, 1)
        self._running = None


def _common_crop(nets: Sequence[Weights]) -> int:
    first = nets[0]
    for net in nets:
        if (
            net.class_names != first.class_names
            or net.preprocessing.crop != first.preprocessing.crop
        ):
            raise UserError(
                "networks of an ensemble must share their classes and their crop; these have "
                f"{len(first.class_names)} and {len(net.class_names)} classes, crops of "
                f"{first.preprocessing.crop} and {net.preprocessing.crop}"
            )
    return first.preprocessing.crop


def _decoded(source: Source) -> Iterator[tuple[Image.Image, int]]:
    """Yields every example in order, decoded ahead by threads."""
    with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
        indices = iter(range(len(source)))
        ahead = collections.deque(
            pool.submit(source.load, index) for index in itertools.islice(indices, _DECODED_AHEAD)
        )
        while ahead:
            example = ahead.popleft().result()
            ahead.extend(pool.submit(source.load, i) for i in itertools.islice(indices, 1))
            yield example
