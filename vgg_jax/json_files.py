"""JSON files that anyone may have written: read within bounds, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from vgg_jax.errors import UserError

MAX_BYTES = 2**26
_MAX_DEPTH = 100


def parse_json(text: str | bytes, name: str) -> Any:
    """Returns the value of a JSON text.

    Args:
      text: at most `MAX_BYTES` long.
      name: of its file, for the message.

    Raises:
      UserError: it is no JSON, too long, or nested too deep.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{name} has {len(text):,} bytes of JSON; at most {MAX_BYTES:,} are read")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{name} is damaged: {reason[:200]}") from error
    layer, depth = [value], 0
    while layer := [inner for outer in layer for inner in _inside(outer)]:
        depth += 1
        if depth > _MAX_DEPTH:
            raise UserError(f"{name} is damaged: it is nested too deep")
    return value


def read_json(path: Path) -> Any:
    """Returns the value in a JSON file.

    Raises:
      UserError: there is no such file, or `parse_json` refuses what is in it.
    """
    try:
        with path.open("rb") as file:
            return parse_json(file.read(MAX_BYTES + 1), str(path))
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}") from error


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file.

    Raises:
      UserError: as `read_json`, or the file has another kind of value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it has no JSON object")
    return value


def write_json(path: Path, content: Any) -> None:
    """Writes JSON so that a reader never sees half a file."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
