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
        self._start, self._next = start, 0
        self._held: list[weakref.ref[Placed] | None] = [None] * (stop - start)

    def __len__(self) -> int:
        return len(self._held)

    def take(self, position: int) -> Placed:
        """A place that nobody holds, or the one that has been held for longest."""
        order = [(self._next + step) % len(self) for step in range(len(self))]
        free = next((index for index in order if (held := self._held[index]) is None or held() is None), order[0])
        held = self._held[free]
        if held is not None and (owner := held()) is not None:
            owner.place = None
        made = Placed(position, self._start + free)
        self._held[free], self._next = weakref.ref(made), (free + 1) % len(self)
        return made
