"""Many short runs, which `experiments.endurance.run` kills and resumes."""

import os
from collections.abc import Iterator

from experiments.endurance.net import NET


def get_runs() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yields as many runs as $ENDURANCE_RUNS says, a seed each."""
    for seed in range(int(os.environ["ENDURANCE_RUNS"])):
        yield f"seed{seed}", "configs/vgg16.py:digits", NET | {"steps": 20, "seed": seed}
