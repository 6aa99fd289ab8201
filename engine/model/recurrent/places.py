"""Places of memory that rows and prefixes hold by reference. Where none is free, what was made first gives up its own,
and whoever held it does without."""

from __future__ import annotations

import weakref
from dataclasses import dataclass


@dataclass(eq=False, slots=True, weakref_slot=True)
class Placed:
    """What lies in a place, while it has one."""

    position: int
    """Of a row."""
    place: int | None


class Places:
    """Those from `start` up to `stop`."""

    def __init__(self, start: int, stop: int) -> None:
        self._held: dict[int, weakref.ref[Placed] | None] = dict.fromkeys(range(start, stop))
        """By place, in the order in which they were taken last."""

    def __len__(self) -> int:
        return len(self._held)

    def take(self, position: int) -> Placed:
        """A place that nobody holds, or the one that has been held for longest."""
        free = (place for place, held in self._held.items() if held is None or held() is None)
        place = next(free, next(iter(self._held)))
        held = self._held.pop(place)
        if held is not None and (owner := held()) is not None:
            owner.place = None
        made = Placed(position, place)
        self._held[place] = weakref.ref(made)
        return made
