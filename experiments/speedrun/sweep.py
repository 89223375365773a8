"""What the speed run's recipe was chosen from: the whole net on an accelerator.

    python -m vgg_jax.sweep --config=experiments/speedrun/sweep.py

Larger batches make an epoch shorter, so they get more epochs in about the same time. Chosen by the
last 5,000 training images, which these runs do not train on; one seed each.
"""

from collections.abc import Iterator

from experiments.speedrun.sweep_quick import HELD_OUT, NO_HIDDEN

IMAGES = 45_000
EPOCHS_A_DISPATCH = 7

# name: batch size, epochs, learning rate, more
RECIPES = {
    "b256_e56": (256, 56, 0.3, {}),
    "b512_e77": (512, 77, 0.5, {}),
    "b512_e77_wd20": (512, 77, 0.5, {"optimizer.weight_decay": 2e-3}),
    "b512_e77_fc1": (512, 77, 0.5, NO_HIDDEN),
    "b512_e98": (512, 98, 0.5, {}),
    "b1024_e98": (1024, 98, 0.8, {}),
}


def get_runs() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yields the runs."""
    for name, (batch, epochs, rate, more) in RECIPES.items():
        steps = IMAGES // batch  # an epoch
        recipe = {
            "data.batch_size": batch,
            "steps": epochs * steps,
            "parallel.steps_per_dispatch": EPOCHS_A_DISPATCH * steps,
            "optimizer.learning_rate": rate,
            "log.every_steps": steps,
            "eval.every_steps": EPOCHS_A_DISPATCH * steps,
        }
        yield name, "configs/speedrun.py", HELD_OUT | recipe | more
