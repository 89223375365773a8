"""Which cells are trained."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Preset:
    """What is trained: every net, norm, initialiser and learning rate."""

    nets: tuple[str, ...]
    inits: tuple[str, ...]
    rates: tuple[float, ...]
    width: float
    steps: int
    batch_size: int = 32


PRESETS = {
    "quick": Preset(
        ("D",),
        ("paper", "paper_variance", "glorot_normal", "he_fan_in"),
        (0.01, 0.1),
        0.125,
        80,
    ),
    "full": Preset(
        ("A", "B", "D", "E"),
        ("paper", "paper_variance", "glorot_normal", "he_fan_in", "he_fan_out", "orthogonal"),
        (0.003, 0.01, 0.03, 0.1),
        0.125,
        200,
    ),
}
