"""The members of one object that lead to the same rule: declared keys as a trie, so that a document is in one rule
however many names go on, with a guard before each branch. Knows names, spelling and guards; not shapes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

from engine.schema.containers.object_members import Member
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules import object_guards
from engine.schema.rules.grammar import Ref, Sequence, Way, literal
from engine.schema.rules.guards import Guard, Members, Names
from engine.schema.rules.layout import spelled

FEW = 4
"""Names that are written out beside each other."""


def write_members(
    writer: ValueWriter, members: Collection[Member], regions: tuple[Members, ...]
) -> tuple[Sequence, Guard | None]:
    """Symbols for one of these members, of which no two have the same key, and the guard before it."""
    named = {member.name: member for member in members if member.name is not None}
    ways = _Trie(writer, named, regions).ways()
    others = [member for member in members if member.name is None]
    free = object_guards.member(regions, None)
    ways += [((*member.key, *writer.value(member.value)), free) for member in others]
    if len(ways) == 1:
        return ways[0]
    name = writer.fresh("m")
    writer.add_ways(name, ways, "value")
    return (Ref(name),), object_guards.another(regions, Names(named), bool(others))


class _Trie:
    def __init__(self, writer: ValueWriter, members: dict[str, Member], regions: tuple[Members, ...]) -> None:
        self.writer = writer
        self.members = members
        self.regions = regions
        self.pending: list[tuple[str, list[str], int]] = []

    def ways(self) -> list[Way]:
        """All of it from the opening quote on."""
        names = sorted(self.members)
        found = [self._way(names, 0, '"')] if len(names) > FEW else [self._leaf(name, 0, '"') for name in names]
        while self.pending:
            rule, names, depth = self.pending.pop()
            self.writer.add_ways(rule, list(self._branches(names, depth)), "value")
        return found

    def _branches(self, names: list[str], depth: int) -> Iterator[Way]:
        """Those that agree in their first `depth` characters, by the next one."""
        for _, group in groupby(names, lambda name: name[depth : depth + 1]):
            alike = list(group)
            if len(alike) > FEW:
                yield self._way(alike, depth)
            else:
                yield from (self._leaf(name, depth) for name in alike)

    def _way(self, names: list[str], depth: int, before: str = "") -> Way:
        """What they share from there on, and a rule for the rest; `before` it."""
        first, last, end = names[0], names[-1], depth
        while first[end : end + 1] == last[end : end + 1]:
            end += 1
        rule = self.writer.fresh("k")
        self.pending.append((rule, names, end))
        text = before + spelled(first[depth:end])[1:-1]
        guard = object_guards.another(self.regions, Names(names), free=False)
        return (literal(text), Ref(rule)), guard

    def _leaf(self, name: str, depth: int, before: str = "") -> Way:
        member = self.members[name]
        symbols = (literal(before + spelled(name[depth:])[1:]), *self.writer.layout.behind_key())
        return (*symbols, *self.writer.value(member.value)), object_guards.member(self.regions, name)
