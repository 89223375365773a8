"""The runs that the speed run's recipe was chosen from: a quarter of the width, on a CPU.

    python -m vgg_jax.sweep --config=experiments/speedrun/sweep_quick.py

The choice was made by the accuracy on the last 5,000 training images, which these runs do not train
on; one seed each.
"""

from collections.abc import Iterator

from experiments.speedrun.sweep import HELD_OUT

# Single steps: on a CPU a scan of them is slower.
SHORT = {
    "compute_dtype": "float32",
    "parallel.steps_per_dispatch": 1,
    "data.workers": 0,
    "data.cutout": 0,
    "model.width": 0.25,
    "epochs": 6.0,
    "optimizer.warmup_epochs": 1.5,
    "log.every_steps": 20,
}
NO_HIDDEN = {"model.head_features": ()}  # one fully connected layer in place of three

# name: batch size, learning rate, weight decay, initialiser, more
RECIPES = {
    "b1024_lr4_fc3": (1024, 0.4, 5e-4, "chengyangfu", {}),
    "b512_lr4_fc3": (512, 0.4, 5e-4, "chengyangfu", {}),
    "b512_lr4_fc1": (512, 0.4, 5e-4, "chengyangfu", NO_HIDDEN),
    "b512_lr4_fc1_wd10": (512, 0.4, 1e-3, "chengyangfu", NO_HIDDEN),
    "b256_lr2_fc1": (256, 0.2, 5e-4, "chengyangfu", NO_HIDDEN),
    "b256_lr4_fc1": (256, 0.4, 5e-4, "chengyangfu", NO_HIDDEN),
    "b256_lr2_fc3_wd10": (256, 0.2, 1e-3, "chengyangfu", {}),
    "b256_lr2_fc3_wd10_he": (256, 0.2, 1e-3, "he_fan_in", {}),
}


def get_runs() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Yields the runs."""
    for name, (batch, rate, decay, init, more) in RECIPES.items():
        recipe = {
            "data.batch_size": batch,
            "optimizer.learning_rate": rate,
            "optimizer.weight_decay": decay,
            "model.kernel_init": init,
        }
        yield name, "configs/speedrun.py", HELD_OUT | SHORT | recipe | more
