"""What a value may be: domains that say in words why a value is outside, or nothing.

A domain is data, so that tests can draw values from it and from outside it.
"""

import dataclasses
import math
import numbers
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from vgg_jax.errors import UserError, quoted


class Domain(Protocol):
    """A set of values."""

    def complaint(self, value: Any) -> str | None:
        """Returns what is wrong with a value, or None if it is in the domain."""
        ...


@dataclasses.dataclass(frozen=True)
class Whole:
    """Whole numbers of [low, high]."""

    low: int
    high: int = 2**31 - 1  # counts are int32 on the devices

    def complaint(self, value: Any) -> str | None:
        if _is(value, numbers.Integral) and self.low <= value <= self.high:
            return None
        return f"must be a whole number from {self.low} to {self.high}"


@dataclasses.dataclass(frozen=True)
class Number:
    """Finite numbers of [low, high], without an end that is open."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def complaint(self, value: Any) -> str | None:
        if _is(value, numbers.Real) and math.isfinite(value):
            above = value > self.low if self.open_low else value >= self.low
            below = value < self.high if self.open_high else value <= self.high
            if above and below:
                return None
        low = f"{'above' if self.open_low else 'at least'} {self.low:g}"
        high = f"{'below' if self.open_high else 'at most'} {self.high:g}"
        ends = [end for end, at in ((low, self.low), (high, self.high)) if math.isfinite(at)]
        return f"must be a finite number{' ' if ends else ''}{' and '.join(ends)}"


@dataclasses.dataclass(frozen=True)
class Flag:
    """True and False."""

    def complaint(self, value: Any) -> str | None:
        return None if isinstance(value, bool) else "must be true or false"


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Names of a list."""

    names: Collection[str]

    def complaint(self, value: Any) -> str | None:
        if isinstance(value, str) and value in self.names:
            return None
        return f"must be one of {', '.join(sorted(self.names))}"


@dataclasses.dataclass(frozen=True)
class Text:
    """Text of at least some characters."""

    shortest: int = 1

    def complaint(self, value: Any) -> str | None:
        if isinstance(value, str) and len(value) >= self.shortest:
            return None
        return f"must be text{' that is not empty' if self.shortest else ''}"


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Regular expressions."""

    def complaint(self, value: Any) -> str | None:
        try:
            re.compile(value)
        except (re.error, TypeError, RecursionError, OverflowError) as error:
            return f"must be a regular expression such as 'fc8/.*' ({error})"
        return None


@dataclasses.dataclass(frozen=True)
class Parsed:
    """What a function reads without a `UserError`."""

    parse: Callable[[Any], object]

    def complaint(self, value: Any) -> str | None:
        try:
            self.parse(value)
        except UserError as error:
            return " ".join(str(error).splitlines())
        return None


@dataclasses.dataclass(frozen=True)
class Each:
    """Tuples (or lists, as JSON has them), each of whose items is in a domain."""

    item: Domain
    shortest: int = 0
    longest: int | None = None

    def complaint(self, value: Any) -> str | None:
        count = f"{self.shortest} or more"
        if self.longest is not None:
            some = f"{self.shortest} to {self.longest}"
            count = f"{self.longest}" if self.longest == self.shortest else some
        most = math.inf if self.longest is None else self.longest
        if not isinstance(value, list | tuple) or not self.shortest <= len(value) <= most:
            return f"must be a tuple of {count} values"
        return _first_complaint((item, self.item) for item in value)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Tuples of two values, each with its own domain."""

    first: Domain
    second: Domain

    def complaint(self, value: Any) -> str | None:
        if not isinstance(value, list | tuple) or len(value) != 2:
            return "must be a pair of values"
        return _first_complaint(zip(value, (self.first, self.second), strict=True))


@dataclasses.dataclass(frozen=True)
class Unset:
    """None, or a value of a domain."""

    otherwise: Domain

    def complaint(self, value: Any) -> str | None:
        if value is None:
            return None
        problem = self.otherwise.complaint(value)
        return problem and f"{problem}, or None"


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _first_complaint(items: Iterable[tuple[Any, Domain]]) -> str | None:
    for item, domain in items:
        problem = domain.complaint(item)
        if problem is not None:
            return f"{quoted(item)}: {problem}"
    return None
