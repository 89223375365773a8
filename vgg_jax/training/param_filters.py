"""Parameters picked by regular expressions on their names, such as "conv3_2/kernel"."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import jax

from vgg_jax.errors import UserError

PyTree = Any


def first_match(names: Iterable[str], patterns: Sequence[str], key: str) -> dict[str, int | None]:
    """Returns for each name the place of the first pattern that it matches in full, or None.

    Args:
      names: "layer/leaf".
      patterns: regular expressions.
      key: the config key that holds them, for an error.

    Raises:
      UserError: for a pattern that matches nothing, so that a misspelt one is not silently idle.
    """
    names = list(names)
    compiled = [re.compile(pattern) for pattern in patterns]
    for pattern in compiled:
        if not any(pattern.fullmatch(name) for name in names):
            raise UserError(
                f"{key} has {pattern.pattern!r}, which matches no parameter; "
                f"names look like {names[0]!r} and {names[-1]!r}"
            )
    return {
        name: next((i for i, each in enumerate(compiled) if each.fullmatch(name)), None)
        for name in names
    }


def select(params: PyTree, patterns: Sequence[str], key: str) -> PyTree:
    """Returns a tree of bools: whether each parameter's name matches any pattern.

    Raises:
      UserError: as `first_match`.
    """
    names = parameter_names(params)
    found = first_match(jax.tree.leaves(names), patterns, key)
    return jax.tree.map(lambda name: found[name] is not None, names)


def parameter_names(params: PyTree) -> PyTree:
    """Returns a tree with the name of each parameter in its place."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jax.tree_util.keystr(path, simple=True, separator="/"), params
    )
