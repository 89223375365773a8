"""What is measured: stacks, networks, and the pairs of networks that are trained."""

import dataclasses

from vgg_jax.models.variants import SHALLOW_B, TABLE_1

# Stacks of equal theoretical receptive field, 64 channels in and out, by its side in pixels.
STACKS = {
    5: ("3-64 x2", "5-64"),
    7: ("3-64 x3", "7-64"),
    25: ("3-64 x12", "5-64 x6", "7-64 x4"),
}


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two networks that are trained alike.

    Attributes:
      names: of the two, as the tables have them.
      stages: of the two.
      norm: of both.
      budgets: what the second network is given, see `BUDGETS`.
      as_the_paper: feeds images that are not divided by their standard deviation, to weights drawn
        by Glorot & Bengio; else both networks start from He's initialisation.
    """

    names: tuple[str, str]
    stages: tuple[tuple[str, ...], tuple[str, ...]]
    norm: str = "none"
    budgets: tuple[str, ...] = ("equal width", "equal parameters", "equal time")
    as_the_paper: bool = False


PAIRS = {
    "5x5": Pair(("B", "shallow-B"), (TABLE_1["B"], SHALLOW_B)),
    "LRN": Pair(
        ("A", "A-LRN"),
        (TABLE_1["A"], TABLE_1["A-LRN"]),
        budgets=("equal width",),
        as_the_paper=True,
    ),
    # Three stages: on the 2x2 maps of a fifth most taps of a 7x7 would fall on padding.
    "7x7 bn": Pair(
        ("3 x 3x3", "7x7"),
        (("3-64 x3", "3-128 x3", "3-256 x3"), ("7-64", "7-128", "7-256")),
        norm="batch",
    ),
    "5x5 bn": Pair(("B", "shallow-B"), (TABLE_1["B"], SHALLOW_B), norm="batch"),
}
# The number of steps of the first network; except for the last, which gives it as many seconds.
BUDGETS = ("equal width", "equal parameters", "equal time")


@dataclasses.dataclass(frozen=True)
class Preset:
    """How much is measured.

    Attributes:
      data: data set of the training, a word of `configs.base.DATASETS`.
      seeds: of every measurement.
      width: of the trained networks.
      net_width: of the networks of `nets`.
      images: per map, at initialisation.
      photos: per map of VGG-19.
      steps: of training.
      timed: rounds in which the two networks of a pair are timed in turn, and steps of a round.
      learning_rate: the highest, after the warm-up.
      nets: of Table 1, measured at their last convolution at initialisation.
      pairs: names in `PAIRS`, those to train.
    """

    data: str
    seeds: int
    width: float
    net_width: float
    images: int
    photos: int
    steps: int
    timed: tuple[int, int]
    batch_size: int = 32
    learning_rate: float = 2e-3
    nets: tuple[str, ...] = ("A", "B", "D", "E")
    pairs: tuple[str, ...] = tuple(PAIRS)


PRESETS = {
    "quick": Preset(
        "digits", 3, 0.0625, 0.125, 2, 1, 40, (3, 2), nets=("A", "D"), pairs=("5x5", "LRN")
    ),
    "full": Preset("cifar10", 3, 0.125, 0.25, 4, 4, 500, (9, 10)),
    "gpu": Preset("cifar10", 5, 1.0, 1.0, 8, 16, 39_100, (9, 100), 128),
}
