"""The kinds of members that one object can have: each with what it supplies of what the object needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

from engine.schema.automata.automaton import Automaton
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules.grammar import Sequence
from engine.schema.sets.shape import ObjectShape
from engine.schema.sets.term import FALSE, TRUE, Term


@dataclass(frozen=True, slots=True)
class Member:
    """One kind of member: its key with colon (`keys`: out of these, if undeclared), its value, and what it supplies."""

    key: Sequence
    value: Term
    name: str | None
    meets: frozenset[int] = frozenset()
    keys: Automaton | None = None


class MemberKinds:
    """Of one shape; `free`: undeclared keys that may be written, with the terms of their values."""

    def __init__(self, writer: ValueWriter, item: ObjectShape, free: list[tuple[Automaton, Term]]) -> None:
        self.writer = writer
        self.item = item
        self.free = free
        self._free: dict[frozenset[int], list[Member]] = {}

    def declared(self, key: str, term: Term, needs: frozenset[int]) -> list[Member]:
        """The member as it is, and as one that meets needs."""
        able = [index for index in sorted(needs) if self.item.needs[index].keys.accepts(key)]
        written = Member(self.writer.layout.key(key), term, key)
        return self._meeting(written, able) if able else [written]

    def _meeting(self, member: Member, able: list[int]) -> list[Member]:
        """One member for every set of needs it can meet; those that ask nothing of the value are always met."""
        values = {index: self.item.needs[index].value for index in able}
        surely = frozenset(index for index in able if values[index] == TRUE)
        perhaps = [index for index in able if index not in surely]
        found: list[Member] = []
        for size in range(len(perhaps) + 1):
            for chosen in combinations(perhaps, size):
                both = self.writer.evaluator.terms.all_of((member.value, *(values[index] for index in chosen)))
                found.append(replace(member, value=both, meets=surely | frozenset(chosen)))
        return [member for member in found if member.value != FALSE]

    def undeclared(self, needs: frozenset[int]) -> list[Member]:
        if needs not in self._free:
            self._free[needs] = self._undeclared(needs)
        return self._free[needs]

    def _undeclared(self, needs: frozenset[int]) -> list[Member]:
        """Members with undeclared keys, the keys cut by what the needs ask for."""
        regions: list[tuple[Automaton, Term, list[int]]] = [(keys, value, []) for keys, value in self.free]
        for index in sorted(needs):
            asked = self.item.needs[index].keys
            cut = [(keys & asked, value, [*able, index]) for keys, value, able in regions]
            if not asked.is_universal:
                cut.extend((keys - asked, value, able) for keys, value, able in regions)
            regions = [part for part in cut if not part[0].is_empty]
        found: list[Member] = []
        for keys, value, able in regions:
            if (key := self._free_key(keys)) is not None:
                found.extend(self._meeting(Member(key[0], value, None, keys=key[1]), able))
        return found

    def _free_key(self, keys: Automaton) -> tuple[Sequence, Automaton] | None:
        """Those of `keys` that are not declared; None when there are none."""
        names = [key for key, _ in self.item.named]
        left = keys - Automaton.of(name for name in names if keys.accepts(name))
        if left.is_empty:
            return None
        return self.writer.key(keys, frozenset(names)), left
