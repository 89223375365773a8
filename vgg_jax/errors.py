"""Errors that are the user's to mend, told apart from bugs by their type."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: its message is one or two lines, what is wrong and what to type instead.

    Command lines print the message without a traceback and exit with status 2
    (`vgg_jax.cli.run_command`).
    """


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UserError:
    """Returns the error for a name that is not in a list, naming the nearest and all known ones."""
    known = sorted(known)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return UserError(f"unknown {kind} {name!r}.{hint}\nKnown: {', '.join(known)}")
