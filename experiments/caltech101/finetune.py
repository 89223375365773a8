"""Fine-tuning beside the linear classifier: `configs/finetune.py` on the same photos."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.caltech101.cells import Preset, few_of, photos_of
from vgg_jax.config import load_config, override_arguments
from vgg_jax.evaluation.accuracy import measure_accuracy
from vgg_jax.training.export_run import load_run
from vgg_jax.training.loop import train

KEY = ("images_per_class", "split")
COLUMNS = (*KEY, "train_examples", "examples", "epochs", "steps", "class_recall", "top1")


def finetune(
    weights: Path, archive: Path, preset: Preset, count: int, split: int, workdir: Path
) -> dict[str, Any]:
    """Trains on a split and scores the centre crops of its test photos.

    Args:
      weights: file of the network.
      archive: of the photos.
      preset: which photos, and for how many epochs.
      count: training images per class.
      split: number of the split.
      workdir: run directory, which a killed run resumes from; removed at the end.

    Raises:
      KeyboardInterrupt: a signal stopped the training.
    """
    started = time.perf_counter()
    sources = (
        few_of(photos_of(archive, preset, "train", split), count),
        photos_of(archive, preset, "test", split),
    )
    changes = {
        "data.dir": archive,
        "data.train_split": f"train-{split}",
        "data.eval_split": f"test-{split}",
        "data.workers": 0,
        "data.batch_size": min(32, len(sources[0]) // 8 * 8),
        "epochs": preset.epochs,
        "eval.every_steps": 0,
        "checkpoint.keep": 1,
        "seed": split,
    }
    config = load_config(f"configs/finetune.py:{weights},caltech101", override_arguments(changes))
    summary = train(config, workdir, started, sources)
    if summary["exit_reason"] != "finished":
        raise KeyboardInterrupt  # nothing to store
    tuned, test, name = load_run(workdir, sources[1])
    scores = measure_accuracy([tuned], test, dataset=name, with_classes=True)
    shutil.rmtree(workdir)
    return {
        "images_per_class": count,
        "split": split,
        "train_examples": len(sources[0]),
        "examples": scores["examples"],
        "epochs": preset.epochs,
        "steps": summary["steps"],
        "class_recall": float(np.mean([row["top1"] for row in scores["per_class"]])),
        "top1": scores["top1"],
    }
