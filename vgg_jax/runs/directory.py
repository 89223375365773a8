"""The run directory: its config, who may continue in it, and the summary at the end."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vgg_jax.config import flatten
from vgg_jax.errors import UserError

CONFIG_FILE = "config.json"
SUMMARY_FILE = "summary.json"
METRICS_FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"
CHECKPOINTS = "checkpoints"
LAYERS_FILE = Path("probes") / "layers.csv"  # of the probes along a run

# Keys that do not change what is computed: a run may go on with other values.
_FREE_PREFIXES = (
    "log.",
    "probe.",
    "checkpoint.",
    "eval.batch_size",
    "data.dir",
    "data.workers",
    "parallel.",
)
# Keys that came after runs had been stored, and what those runs did.
_LATER_KEYS: dict[str, Any] = {
    "init": {"weights": None, "fresh": []},
    "data": {"channel_order": "RGB", "cutout": 0},
    "optimizer": {"rates": [], "frozen": []},
}
# With these schedules what is past does not depend on where the end is.
_OPEN_ENDED_SCHEDULES = ("constant", "step", "plateau")


def open_workdir(workdir: Path, config: ConfigDict) -> None:
    """Makes the folder and stores the config, or checks that the one stored there agrees.

    Raises:
      UserError: the folder cannot be written, or the stored config differs in what matters.
    """
    path = workdir / CONFIG_FILE
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_same_config(workdir, config)
        else:
            write_json(path, json.loads(config.to_json_best_effort()))
        probe = workdir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to workdir {workdir}: {error.strerror}; give another one by --workdir"
        ) from error


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config stored in a run directory."""
    stored = json.loads((workdir / CONFIG_FILE).read_text())
    return ConfigDict(stored | {k: later | stored.get(k, {}) for k, later in _LATER_KEYS.items()})


def check_same_config(workdir: Path, config: ConfigDict) -> None:
    """Raises UserError where the config stored in `workdir` differs in what is computed."""
    before = flatten(read_config(workdir))
    now = flatten(ConfigDict(json.loads(config.to_json_best_effort())))
    free: tuple[str, ...] = _FREE_PREFIXES
    if now["optimizer.schedule"] in _OPEN_ENDED_SCHEDULES:
        free += ("epochs", "steps")
    changed = [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} now"
        for key in sorted(before | now)
        if before.get(key) != now.get(key) and not key.startswith(free)
    ]
    if changed:
        raise UserError(
            f"{workdir} holds a run with another config ({'; '.join(changed)}).\n"
            "Give the same config to resume it, or another --workdir to start a new run"
        )


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a reader never sees half a file."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def write_report(path: Path, content: Any) -> None:
    """Writes JSON to a file that the user named, in a folder that is made where absent.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
