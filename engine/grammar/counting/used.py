"""The values that an array without equal items has, found by how they begin. Knows sorted texts; no cursors.

A row asks at every token, and a search at every step, so that a look at each value would make long arrays take the
square of their length, and more.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache

_FEW = 16
"""Values that are looked at one by one, beside those that are sorted."""
_recent: list[frozenset[str]] = []
"""The last sets that were sorted; threads may write it at once and lose one of theirs, which is sorted once more."""


class Used:
    """Values as `canonical` writes them, some of them `sorted`, the `rest` few."""

    def __init__(self, values: frozenset[str], rest: Iterable[str] = ()) -> None:
        self._sorted = _sorted(values)
        self._rest = tuple(rest)

    def strings(self, begun: str) -> Iterator[str]:
        """The strings that begin so, decoded."""
        for _, value in _beginning(self._sorted[0], begun):
            yield value
        for value in self._rest:
            if value[0] == '"' and json.loads(value).startswith(begun):
                yield value

    def numbers(self, begun: str) -> Iterator[str]:
        """The numbers that begin so, and those with an exponent."""
        for _, value in _beginning(self._sorted[1], begun):
            yield value
        for _, value in self._sorted[2] if begun else ():
            if not value.startswith(begun):
                yield value
        for value in self._rest:
            if value[0] in "-0123456789" and ("e" in value or value.startswith(begun)):
                yield value

    def others(self, begun: str) -> Iterator[str]:
        """All else that begins so."""
        for _, value in _beginning(self._sorted[3], begun):
            yield value
        for value in self._rest:
            if value[0] not in '"-0123456789' and value.startswith(begun):
                yield value


_Kind = list[tuple[str, str]]


@lru_cache(maxsize=16)
def _sorted(values: frozenset[str]) -> tuple[_Kind, _Kind, _Kind, _Kind]:
    """Strings by their text; numbers; those with an exponent again; all else."""
    strings = sorted((json.loads(value), value) for value in values if value[0] == '"')
    numbers = sorted((value, value) for value in values if value[0] in "-0123456789")
    others = sorted((value, value) for value in values if value[0] not in '"-0123456789')
    return strings, numbers, [pair for pair in numbers if "e" in pair[0]], others


def _beginning(pairs: _Kind, begun: str) -> Iterable[tuple[str, str]]:
    for index in range(bisect_left(pairs, (begun, "")), len(pairs)):
        if not pairs[index][0].startswith(begun):
            return
        yield pairs[index]


@lru_cache(maxsize=32)
def used_before(values: frozenset[str]) -> Used:
    """The values of an array; most of them were sorted when it was shorter. Linear in them, then remembered."""
    if len(values) <= _FEW:
        return Used(frozenset(), values)
    for before in reversed(_recent):
        if 0 <= len(values) - len(before) <= _FEW and before <= values:
            return Used(before, values - before)
    _recent.append(values)
    del _recent[:-4]
    return Used(values)
