"""Values that must differ: when two texts are one value to JSON Schema, and whether there are values enough.

Knows JSON and sets. `uniqueItems` is held with these.
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from functools import lru_cache
from typing import Any

Choices = Sequence[frozenset[str] | None]
"""The values, as `canonical` writes them, that each place can have; None: any."""


@lru_cache(maxsize=4096)
def canonical(text: bytes) -> str | None:
    """`of_value` of the value that this spells, whatever its escapes; None where it is no JSON."""
    try:
        return of_value(json.loads(text))
    except (ValueError, RecursionError):
        return None


def of_value(value: Any) -> str:
    """The one text of all JSON values that JSON Schema calls equal to this: 1 is 1.0 and 1e0, key order is nothing."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def are_enough(
    choices: tuple[frozenset[str] | None, ...], first: int, last: int, used: frozenset[str], item: str | None
) -> bool:
    """Whether the places from `first` to before `last` can each have a value of its own, neither `used` nor `item`. The
    last of the choices is for all further places. A microsecond, where those left differ some for each, once."""
    own = choices[first : min(last, len(choices) - 1)]
    further, common = last - max(first, len(choices) - 1), choices[-1]
    if any(own):
        return _match((*own, *[common] * max(0, further)), used, item)
    if common is None or further <= 0:
        return True
    return further + _held(common, used) + (item in common and item not in used) <= len(common)


@lru_cache(maxsize=32)
def _held(choices: frozenset[str], used: frozenset[str]) -> int:
    """How many of these values are used."""
    few, many = (used, choices) if len(used) < len(choices) else (choices, used)
    return sum(value in many for value in few)


@lru_cache(maxsize=64)
def _match(places: tuple[frozenset[str] | None, ...], used: frozenset[str], item: str | None) -> bool:
    gone = used if item is None else used | {item}
    return _matched(places, {c: list(c) for c in places if c is not None}, gone) is not None


def representatives(places: Choices) -> list[str | None] | None:
    """A value for each place, no two of them equal (None for one that can have any); None where there are not
    enough."""
    return _matched(places, {choices: sorted(choices) for choices in places if choices is not None}, frozenset())


def _matched(places: Choices, values: dict[frozenset[str], list[str]], used: Set[str]) -> list[str | None] | None:
    """The same without those `used`. The first that nobody has, else by augmenting paths (Kuhn 1955)."""
    taken: dict[str, int] = {}
    owned: dict[int, str] = {}
    tried = dict.fromkeys(values, 0)
    for start, choices in enumerate(places):
        if choices is None:
            continue
        own, at = values[choices], tried[choices]
        while at < len(own) and (own[at] in taken or own[at] in used):
            at += 1
        tried[choices] = at
        if at < len(own):
            taken[own[at]], owned[start] = start, own[at]
        elif not _augment(start, places, values, used, taken, owned):
            return None
    return [owned.get(place) for place in range(len(places))]


def _augment(
    start: int,
    places: Choices,
    values: dict[frozenset[str], list[str]],
    used: Set[str],
    taken: dict[str, int],
    owned: dict[int, str],
) -> bool:
    """Give this place a value, and others another than they have."""
    reached: dict[str, int] = {}
    pending, free = [start], None
    while pending and free is None:
        place = pending.pop()
        for value in values[places[place]]:  # type: ignore[index]  # no place with any value is taken
            if value not in reached and value not in used:
                reached[value] = place
                if value not in taken:
                    free = value
                    break
                pending.append(taken[value])
    while free is not None:
        place = reached[free]
        taken[free] = place
        owned[place], free = free, owned.get(place)
    return start in owned
