"""What each part measures."""

import dataclasses

BIAS_VARIANCE = 0.05  # of the tanh nets


@dataclasses.dataclass(frozen=True)
class Preset:
    """Sizes of all parts.

    Attributes:
      length_variances: of tanh nets whose correlation length is measured.
      relu_variances: of ReLU nets.
      wide: widths of both, from narrow to wide.
      nets: how many of each.
      relu_layers: depth of the ReLU nets.
      trained_variances: of tanh nets that are trained.
      trained_depths: their hidden layers.
      trained_width: of all of them.
      trained_seeds: of the weights; the learning rate is chosen on the first.
      rates: learning rates to choose from.
      steps: of training.
      gain_nets: nets whose ln |J u|^2 is measured, names of `gains.py`.
      gain_seeds: how many.
      edge_widths: of linear nets.
      edge_layers: their layers.
      spread_layers: depths of nets whose singular values are measured.
      spread_width: their width.
      stack_width: multiplier of net D's channels.
      matrix_seeds: of all singular values.
    """

    length_variances: tuple[float, ...]
    relu_variances: tuple[float, ...]
    wide: tuple[int, ...]
    nets: int
    relu_layers: int
    trained_variances: tuple[float, ...]
    trained_depths: tuple[int, ...]
    trained_width: int
    trained_seeds: int
    rates: tuple[float, ...]
    steps: int
    gain_nets: tuple[str, ...]
    gain_seeds: int
    edge_widths: tuple[int, ...]
    edge_layers: tuple[int, ...]
    spread_layers: tuple[int, ...]
    spread_width: int
    stack_width: float
    matrix_seeds: int


PRESETS = {
    "quick": Preset(
        length_variances=(1.0, 2.5),
        relu_variances=(1.0, 2.0),
        wide=(64, 256),
        nets=5,
        relu_layers=40,
        trained_variances=(1.0, 1.6, 3.0),
        trained_depths=(4, 16, 48),
        trained_width=64,
        trained_seeds=3,
        rates=(0.001, 0.003),
        steps=100,
        gain_nets=("16 x 4", "32 x 8", "D of 1x1", "A"),
        gain_seeds=50,
        edge_widths=(64, 128),
        edge_layers=(1, 2, 4),
        spread_layers=(2, 8),
        spread_width=64,
        stack_width=0.125,
        matrix_seeds=3,
    ),
    "full": Preset(
        length_variances=(0.8, 1.0, 1.2, 1.4, 1.5, 1.6, 1.9, 2.0, 2.25, 2.5, 3.0, 4.0),
        relu_variances=(1.0, 2.0, 4.0),
        wide=(128, 512),
        nets=10,
        relu_layers=100,
        trained_variances=(0.8, 1.0, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0, 4.0),
        trained_depths=(8, 16, 32, 48, 64, 96),
        trained_width=100,
        trained_seeds=3,
        rates=(0.0003, 0.001, 0.003),
        steps=300,
        gain_nets=(
            "16 x 4",
            "32 x 8",
            "64 x 16",
            "64 x 4",
            "128 x 8",
            "32 x 16",
            "32 x 32",
            "A of 1x1",
            "D of 1x1",
            "A",
            "D",
            "D, stride",
        ),
        gain_seeds=200,
        edge_widths=(128, 256, 512),
        edge_layers=(1, 2, 4, 8, 16),
        spread_layers=(2, 8, 32),
        spread_width=128,
        stack_width=0.25,
        matrix_seeds=5,
    ),
}
