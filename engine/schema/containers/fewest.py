"""What an object must have at least, whatever its guards look at: the members that every shortest text is chosen from.

Knows members, needs and words of automata. Small numbers of ways are enough: a longer text is no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol

from engine.schema.automata.automaton import Automaton
from engine.schema.containers.object_members import Member, MemberKinds
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules.grammar import Sequence
from engine.schema.rules.shortest import Fewest, Ranked
from engine.schema.sets.shape import ObjectShape
from engine.schema.sets.term import Term
from engine.schema.sets.words import ascending

WAYS = 8
"""Ways to have all that is needed that are compared."""


class WrittenObject(Protocol):
    """One object shape in one place, as its writer sees it."""

    writer: ValueWriter
    item: ObjectShape
    named: list[tuple[str, Term]]
    free: list[tuple[Automaton, Term]]
    members: MemberKinds

    @property
    def parts(self) -> list[Sequence]: ...


def fewest_members(shape: WrittenObject, needs: frozenset[int], first: bool) -> tuple[Fewest, ...]:
    """Sets of members that the object needs where these needs are left, no matter what is there already (nothing, if
    `first`); none of them where any way to its end will do."""
    item = shape.item
    if not (needs or item.low or item.required):
        return ()
    return tuple(_fewest(shape, met, first) for met in islice(_meeting(shape, needs, frozenset()), WAYS))


def _meeting(shape: WrittenObject, needs: frozenset[int], taken: frozenset[str]) -> Iterator[tuple[Member, ...]]:
    """Members that together are what is needed."""
    if not needs:
        yield ()
        return
    kinds = [member for key, term in shape.named for member in shape.members.declared(key, term, needs)]
    for member in (*kinds, *shape.members.undeclared(needs)):
        if min(needs) in member.meets and member.name not in taken:
            names = taken if member.name is None else taken | {member.name}
            for others in _meeting(shape, needs - member.meets, names):
                yield (member, *others)


def _fewest(shape: WrittenObject, met: tuple[Member, ...], first: bool) -> Fewest:
    layout, value = shape.writer.layout, shape.writer.value
    needed = {member.name: member.value for member in met if member.name is not None}
    always: dict[str, Ranked] = {}
    others: list[Ranked] = []
    for rank, (key, _) in enumerate(shape.named):
        part = shape.parts[rank]
        if key in needed:
            always[key] = (rank, (*layout.key(key), *value(needed[key])))
        elif key in shape.item.required:
            always[key] = (rank, part)
        else:
            others.append((rank, part))
    last = len(shape.named)
    for member in met:
        if member.keys is not None:
            word = next(word for word in ascending(member.keys) if word not in always)
            always[word] = (last, (*layout.key(word), *value(member.value)))
    more = max(0, shape.item.low - len(always))
    for keys, term in shape.free if more else ():
        declared = Automaton.of(key for key, _ in shape.item.named if keys.accepts(key))
        free = (word for word in ascending(keys - declared) if word not in always)
        others.extend((last, (*layout.key(word), *value(term))) for word in islice(free, more))
    return Fewest(tuple(always.values()), tuple(others), more, layout.comma(), layout.closed("}"), not first)
