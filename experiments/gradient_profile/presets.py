"""What each preset trains: as `depth_limit` does, whose runs are the ones without intervention."""

import dataclasses

from experiments.depth_limit.presets import PRESETS as BASE
from experiments.depth_limit.presets import Preset

SEEDS = {"quick": 3, "full": 5, "cifar10": 4}  # of the coherence of gradients

PRESETS: dict[str, Preset] = {
    "quick": dataclasses.replace(BASE["quick"], layers=(19,)),
    "full": dataclasses.replace(
        BASE["full"],
        layers=(19, 35, 51),
        relative_rates=(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
        lanes=3,
    ),
    "cifar10": dataclasses.replace(BASE["cifar10"], layers=(19, 35, 51)),
}
