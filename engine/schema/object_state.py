"""What an object's rules remember, and what one member does to it. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from engine.schema.automaton import Automaton
from engine.schema.grammar import Sequence
from engine.schema.guards import Guard
from engine.schema.term import Term

Way = tuple[Sequence, Guard | None]
"""An alternative and what it asks of the object so far."""


@dataclass(frozen=True, slots=True)
class ObjectState:
    """Where the object is: next position in schema order (0 in any order), what is missing, members so far.

    The last two only where nobody counts; they stay as they are elsewhere.
    """

    position: int
    missing: frozenset[str]
    needs: frozenset[int]
    count: int
    first: bool = False

    def after(
        self, name: str | None, count_to: int, meets: frozenset[int] = frozenset(), position: int = 0
    ) -> ObjectState:
        """Behind one more member; members are counted up to `count_to`."""
        missing = self.missing if name is None else self.missing - {name}
        return ObjectState(position, missing, self.needs - meets, min(self.count + 1, count_to))


@dataclass(frozen=True, slots=True)
class Member:
    """One kind of member: its key with colon (`keys`: out of these, if undeclared), its value, and what it supplies."""

    key: Sequence
    value: Term
    name: str | None
    meets: frozenset[int] = frozenset()
    keys: Automaton | None = None
