"""Domains say what is wrong with a value, or nothing."""

import math

import numpy as np
import pytest

from vgg_jax.errors import UserError
from vgg_jax.models.domains import (
    Each,
    Flag,
    Number,
    OneOf,
    Pair,
    Parsed,
    Pattern,
    Text,
    Unset,
    Whole,
)


def refuse(value):
    raise UserError("first line.\nsecond line")


@pytest.mark.parametrize(
    ("domain", "value", "complaint"),
    [
        (Whole(1, 9), 9, None),
        (Whole(1, 9), np.int64(9), None),
        (Whole(1, 9), 10, "must be a whole number from 1 to 9"),
        (Whole(1, 9), 2.0, "must be a whole number from 1 to 9"),
        (Whole(0), True, "must be a whole number from 0 to 2147483647"),
        (Number(), -1e300, None),
        (Number(), math.nan, "must be a finite number"),
        (Number(0), -0.5, "must be a finite number at least 0"),
        (Number(0, 1, open_low=True), 0, "must be a finite number above 0 and at most 1"),
        (Number(0, 1, open_high=True), 1, "must be a finite number at least 0 and below 1"),
        (Flag(), False, None),
        (Flag(), 0, "must be true or false"),
        (OneOf(("b", "a")), "a", None),
        (OneOf(("b", "a")), ["a"], "must be one of a, b"),
        (Text(), "", "must be text that is not empty"),
        (Text(shortest=0), "", None),
        (Text(shortest=0), None, "must be text"),
        (Pattern(), "conv.*", None),
        (Parsed(int), "1", None),
        (Parsed(refuse), "1", "first line. second line"),
        (Each(Whole(1)), (), None),
        (Each(Whole(1)), [1, 0], "0: must be a whole number from 1 to 2147483647"),
        (Each(Whole(1), 3, 3), (1, 2), "must be a tuple of 3 values"),
        (Each(Whole(1), 1, 2), (), "must be a tuple of 1 to 2 values"),
        (Each(Whole(1), 1), "1", "must be a tuple of 1 or more values"),
        (Pair(Text(), Number(0)), ("a", 1), None),
        (Pair(Text(), Number(0)), ("a", -1), "-1: must be a finite number at least 0"),
        (Pair(Text(), Number(0)), ("a",), "must be a pair of values"),
        (Unset(Whole(1)), None, None),
        (Unset(Whole(1, 2)), 3, "must be a whole number from 1 to 2, or None"),
    ],
)
def test_complaints(domain, value, complaint):
    assert domain.complaint(value) == complaint


@pytest.mark.parametrize("value", ["(", 5, None])
def test_patterns_that_are_none(value):
    assert "must be a regular expression such as" in Pattern().complaint(value)
