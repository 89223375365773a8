"""What each preset trains and measures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Preset:
    """Sizes of the experiment.

    Attributes:
      data: "digits", or "cifar10" from an .npz file.
      layers: depths that are trained.
      channels: of the trained nets.
      steps: of training.
      batch_size: of training.
      relative_rates: first steps tried, as a share of the weights' norm.
      lanes: runs at a time: it divides the number of rates, and is the number of further seeds.
      gradient_layers: depths whose gradients are measured at the start.
      gradient_channels: widths at which.
      gradient_seeds: draws of the weights for that.
      lesion_layers: depth of the nets that lose layers after training.
      lower_rates: tried with the further seeds alone, if they go below `relative_rates`.
    """

    data: str
    layers: tuple[int, ...]
    channels: int
    steps: int
    batch_size: int
    relative_rates: tuple[float, ...]
    lanes: int
    gradient_layers: tuple[int, ...]
    gradient_channels: tuple[int, ...]
    gradient_seeds: int
    lesion_layers: int
    lower_rates: tuple[float, ...] = ()


PRESETS = {
    "quick": Preset(
        "digits", (11, 19), 8, 100, 32, (1e-3, 3e-3, 1e-2), 3, (19,), (8,), 5, lesion_layers=11
    ),
    "full": Preset(
        "digits",
        (5, 11, 19, 35, 51),
        8,
        200,
        32,
        (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        3,
        (11, 19, 35, 51, 101),
        (8, 32, 128),
        8,
        lesion_layers=19,
        lower_rates=(3e-5, 1e-4),
    ),
    # One command for a GPU: see the README.
    "cifar10": Preset(
        "cifar10",
        (11, 19, 35, 51, 101),
        32,
        4000,
        128,
        (1e-3, 3e-3, 1e-2, 3e-2),
        4,
        (11, 19, 35, 51, 101),
        (32,),
        4,
        lesion_layers=51,
    ),
}
