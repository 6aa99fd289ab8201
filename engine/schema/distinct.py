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


def can_differ(places: Choices, used: Set[str]) -> bool:
    """Whether each place can have a value of its own, none of them `used`."""
    if not places or places[0] is None or any(choices is not places[0] for choices in places):
        return representatives(places, used) is not None
    return len(places) + sum(value in places[0] for value in used) <= len(places[0])


def representatives(places: Choices, used: Set[str] = frozenset()) -> list[str | None] | None:
    """A value for each place, no two of them equal and none `used` (None for one that can have any); None where there
    are not enough. By augmenting paths (Kuhn 1955)."""
    left = {choices: sorted(choices - used) for choices in places if choices is not None}
    taken: dict[str, int] = {}
    owned: dict[int, str] = {}
    for start, choices in enumerate(places):
        if choices is None:
            continue
        reached: dict[str, int] = {}
        pending = [start]
        free = None
        while pending and free is None:
            place = pending.pop()
            for value in left[places[place]]:  # type: ignore[index]  # no place with any value is taken
                if value not in reached:
                    reached[value] = place
                    if value not in taken:
                        free = value
                        break
                    pending.append(taken[value])
        while free is not None:
            place = reached[free]
            taken[free] = place
            owned[place], free = free, owned.get(place)
        if start not in owned:
            return None
    return [owned.get(place) for place in range(len(places))]
