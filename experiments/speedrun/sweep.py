"""The runs that the speed run's recipe was chosen from: full width, on an accelerator.

    python -m vgg_jax.sweep --config=experiments/speedrun/sweep.py

How many epochs, and does cutout help? The choice was made by the accuracy on the last 5,000
training images, which these runs do not train on; one seed each.
"""

import itertools
from collections.abc import Iterator

from configs.speedrun import BATCH

HELD_OUT = {"data.train_split": "train[:45000]", "data.eval_split": "train[45000:]"}
STEPS = 45_000 // BATCH  # an epoch
EPOCHS_A_DISPATCH = 7


def get_runs() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yields the runs."""
    for epochs, cutout in itertools.product((77, 112), (0, 8)):
        recipe = {
            "data.cutout": cutout,
            "steps": epochs * STEPS,
            "parallel.steps_per_dispatch": EPOCHS_A_DISPATCH * STEPS,
            "log.every_steps": STEPS,
            "eval.every_steps": EPOCHS_A_DISPATCH * STEPS,
        }
        yield f"epochs{epochs}_cutout{cutout}", "configs/speedrun.py", HELD_OUT | recipe
