"""A sweep of three small runs, one of which fails."""

from pathlib import Path

# What a run is told of memory stands in its log.
CONFIG = """
import os

from configs.vgg11 import get_config as vgg11


def get_config(argument):
    print("memory", os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION"))
    return vgg11(argument)
"""
SWEEP = """
from pathlib import Path

CONFIG = f"{Path(__file__).parent / 'config.py'}:digits"
TINY = {
    "model.stages": ("3-4", "3-8"),
    "data.image_size": 8,
    "model.head": "linear",
    "data.batch_size": 16,
    "steps": 800,
    "eval.every_steps": 400,
    "checkpoint.every_steps": 1000,
    "log.every_steps": 1,
    "optimizer.warmup_epochs": 0.0,
}


def get_runs():
    for seed in (3, 4):
        yield f"good-seed{seed}", CONFIG, TINY | {"seed": seed}
    yield "bad", CONFIG, TINY | {"init.weights": "gone", "seed": 5}
"""


def write_sweep(folder: Path) -> Path:
    """Writes the sweep and the config it names; returns the path of the sweep."""
    (folder / "sweep.py").write_text(SWEEP)
    (folder / "config.py").write_text(CONFIG)
    return folder / "sweep.py"
