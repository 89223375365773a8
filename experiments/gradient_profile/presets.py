"""What each preset trains: as `depth_limit` does, whose runs are the ones without intervention."""

import dataclasses

from experiments.depth_limit.presets import PRESETS as BASE
from experiments.depth_limit.presets import Preset

# Of the coherence of gradients.
SEEDS = {"quick": 3, "full": 5, "cifar10": 4}
CHANNELS = {"quick": 8, "full": 32, "cifar10": 32}

PRESETS: dict[str, Preset] = {
    "quick": dataclasses.replace(BASE["quick"], layers=(19,)),
    # Both ends first.
    "full": dataclasses.replace(BASE["full"], layers=(19, 51, 35)),
    "cifar10": dataclasses.replace(BASE["cifar10"], layers=(19, 35, 51)),
}
