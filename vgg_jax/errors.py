"""Errors that the user can fix, told apart from bugs by their type."""

import difflib
import reprlib
from collections.abc import Iterable

EXIT_USER_ERROR = 2

# Extras of pyproject.toml, by the modules that only they bring.
EXTRAS = {
    **dict.fromkeys(("array_record", "cv2", "grain", "sklearn", "tensorboardX"), "train"),
    "tensorflow_datasets": "train",
    **dict.fromkeys(("matplotlib", "pyarrow"), "report"),
}

_LONG_LIST = 18  # names
_NEAREST = 4

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80  # characters


class UserError(Exception):
    """Bad input: its message is one or two lines, what is wrong and what to type instead.

    Command lines print the message without a traceback and exit with status 2
    (`vgg_jax.cli.run_command`).
    """


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Returns a line that says what to install, or None if no extra brings that module."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    return f"this needs {module}: pip install 'vgg_jax[{EXTRAS[module]}]', or 'vgg_jax[all]'"


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UserError:
    """Returns the error for a name that is not in a list, naming the nearest and all known ones.

    Of a long list only the few nearest.
    """
    known = sorted(known)
    nearest = difflib.get_close_matches(str(name)[:80], known, n=_NEAREST, cutoff=0.0)
    like = difflib.get_close_matches(str(name)[:80], nearest, n=1, cutoff=0.5)
    hint = f" Did you mean {like[0]!r}?" if like else ""
    shown = f"Known: {', '.join(known)}"
    if len(known) > _LONG_LIST:
        shown = f"The nearest of {len(known)}: {', '.join(nearest)}"
    return UserError(f"unknown {kind} {quoted(name)}.{hint}\n{shown}")


def quoted(value: object) -> str:
    """Returns the `repr` of a value, cut short in the middle: a message has one or two lines."""
    return _short.repr(value)
