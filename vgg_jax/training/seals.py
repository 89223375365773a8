"""Seals of checkpoints: size and CRC-32 of every file, written once a checkpoint is complete.

The storage format notices some damage, in its own words and often with pages of tracebacks. A seal
notices all of it, before anything else reads the files.
"""

import zlib
from pathlib import Path
from typing import Any

from vgg_jax.errors import UserError
from vgg_jax.json_files import read_object, write_json

_BLOCK = 2**24  # bytes read at once


def write_seal(folder: Path, step: int) -> None:
    """Seals the checkpoint `folder/step` as it is on the disk now."""
    files = {
        str(path.relative_to(folder / str(step))): _measure(path)
        for path in sorted((folder / str(step)).rglob("*"))
        if path.is_file()
    }
    write_json(_seal(folder, step), {"files": files})


def remove_seal(folder: Path, step: int) -> None:
    """Removes a seal if there is one."""
    _seal(folder, step).unlink(missing_ok=True)


def sealed_steps(folder: Path) -> list[int]:
    """Returns the steps that have a seal, whether or not the checkpoint is still there."""
    names = [path.stem.removeprefix(".seal-") for path in folder.glob(".seal-*.json")]
    return sorted(int(name) for name in names if name.isdecimal())


def damage(folder: Path, step: int) -> str | None:
    """Returns in a few words what is wrong with a sealed checkpoint, or None.

    None too if it has no seal, or one that cannot be read: then nothing is known.

    Raises:
      OSError: the storage failed.
    """
    if not (folder / str(step)).exists():
        return "it is gone"
    try:
        files: dict[str, Any] = read_object(_seal(folder, step))["files"]
    except (UserError, KeyError):
        return None
    for name, measured in files.items():
        try:
            same = _measure(folder / str(step) / name) == measured
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return f"{name} is missing"
        if not same:
            return f"{name} is not as it was written"
    return None


def _seal(folder: Path, step: int) -> Path:
    return folder / f".seal-{step}.json"


def _measure(path: Path) -> list[int]:
    """Returns size and CRC-32."""
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            checksum = zlib.crc32(block, checksum)
    return [size, checksum]
