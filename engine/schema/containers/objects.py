"""Objects as rules: a rule knows which needs are left, guards ask what is there, how many members, and in which order.

Right-recursive, brace inside. One shared rule holds the members that change nothing, so that the states stay small.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from functools import cached_property
from itertools import islice
from typing import Any

from engine.errors import LimitExceeded
from engine.schema.automata.automaton import Automaton
from engine.schema.containers.key_trie import write_members
from engine.schema.containers.object_members import Member, MemberKinds
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules import object_guards
from engine.schema.rules.grammar import Ref, Sequence, Way
from engine.schema.rules.guards import DependentMembers, Members, Order
from engine.schema.rules.layout import Follow
from engine.schema.rules.shortest import Fewest, Ranked
from engine.schema.semantics.occurrences import mark
from engine.schema.sets.algebra import closed
from engine.schema.sets.shape import ObjectShape
from engine.schema.sets.term import FALSE, Term
from engine.schema.sets.words import ascending
from engine.schema.verdicts.verdict import VerdictWord

WRITABLE = 10_000
"""Most members that an object may be required to have."""
STATE_LIMIT = 5_000
"""Rules of one object."""
WAYS = 8
"""Ways to have all that is needed that are compared."""

Needs = frozenset[int]
"""The numbers of the needs that no member has met yet."""


class ObjectWriter:
    """Writes one object shape in one place."""

    def __init__(self, writer: ValueWriter, item: ObjectShape, follow: Follow, term: Term) -> None:
        self.writer = writer
        self.item = item
        self.term = term
        self.follow: Follow = follow
        if item.low > WRITABLE:
            raise LimitExceeded(f"minProperties {item.low} is over the limit of {WRITABLE} members", param="schema")
        self.closed = writer.options.tight and (item.declared or writer.closes)
        self.ordered = self._is_ordered()
        self.named = [(key, term) for key, term in item.named if term != FALSE]
        self.free = [(part.keys, part.value) for part in item.others if part.explicit or not self.closed]
        self.members = MemberKinds(writer, item, self.free)
        self._names: dict[Hashable, str] = {}
        self._pending: list[Any] = []
        if self.ordered and self.named:
            self.mark(
                ("properties",) if item.declared else ("required",), "narrowed", "keys are written in schema order"
            )
        if self.closed and any(not part.explicit for part in item.others):
            self.mark(("properties", "patternProperties"), "narrowed", "undeclared keys are not written")

    def _is_ordered(self) -> bool:
        return self.closed and not self.writer.options.any_order

    @property
    def is_plain(self) -> bool:
        """Whether no rule needs to know anything but which shapes are still possible."""
        return not self.item.needs and (not self.free or (len(self.free) == 1 and self.free[0][0].is_universal))

    @cached_property
    def parts(self) -> list[Sequence]:
        """Declared members as symbols."""
        return [(*self.writer.layout.key(key), *self.writer.value(term)) for key, term in self.named]

    @cached_property
    def order(self) -> Order | None:
        """The order of the keys, if there is one."""
        if not self.ordered:
            return None
        return Order(tuple(key for key, _ in self.named), self.item.required, is_open=bool(self.free))

    def region(self, names: frozenset[str], still_needed: int = 0) -> Members:
        """What the guards ask for, of the keys `names`, with room for members that are needed for what they are."""
        item = self.item
        own = dict(self.named)
        never = frozenset(key for key in names if key not in own and (key in item.values or not self.free))
        high = None if item.high is None else item.high - still_needed
        bounds = names - never, item.required, item.low, high, self.order, never
        return DependentMembers(*bounds, tuple(closed(item.implied).items())) if item.implied else Members(*bounds)

    def write(self) -> Ref:
        """The rule for what follows the opening brace, closing brace included."""
        start = self._name((frozenset(range(len(self.item.needs))), True))
        while self._pending:
            state = self._pending.pop()
            name = self._names[state]
            self.writer.add_ways(name, self._alternatives(*state), self.follow)
            if fewest := fewest_members(self, *state):
                self.writer.fewest[name] = fewest
        return Ref(start)

    def mark(self, keywords: tuple[str, ...], word: VerdictWord, reason: str) -> None:
        """Name keywords of this shape."""
        mark(self.writer.evaluator, self.term, keywords, word, reason)

    def _name(self, state: Hashable) -> str:
        """The rule of a state, which is still to be written where it is new."""
        if state not in self._names:
            if len(self._names) >= STATE_LIMIT:
                raise LimitExceeded(f"an object needs more than {STATE_LIMIT} rules", param="schema")
            self._names[state] = self.writer.fresh("o")
            self._pending.append(state)
        return self._names[state]

    def _alternatives(self, needs: Needs, first: bool) -> list[Way]:
        """The brace, or the next member and what follows it.

        A state leads back to itself directly and to no earlier one, so the compiler can remember its rule.
        """
        layout = self.writer.layout
        names = frozenset(key for key, _ in self.item.named)
        comma = () if first else layout.comma()
        found: list[Way] = [] if needs else [(layout.closed("}"), object_guards.end((self.region(names),)))]
        kinds = [member for key, term in self.named for member in self.members.declared(key, term, needs)]
        kinds += self.members.undeclared(needs)
        by_needs: dict[Needs, list[Member]] = {}
        for member in kinds:
            by_needs.setdefault(needs - member.meets, []).append(member)
        for left, members in by_needs.items():
            regions = (self.region(names, len(left)),)
            symbols, guard = write_members(self.writer, members, regions)
            found.append(((*comma, *symbols, Ref(self._name((left, False)))), guard))
        return found


def fewest_members(shape: ObjectWriter, needs: frozenset[int], first: bool) -> tuple[Fewest, ...]:
    """Sets of members that the object needs where these needs are left, no matter what is there already (nothing, if
    `first`); none of them where any way to its end will do."""
    item = shape.item
    if not (needs or item.low or item.required or (item.implied and not first)):
        return ()
    return tuple(
        way for met in islice(_meeting(shape, needs, frozenset()), WAYS) for way in _fewest_with(shape, met, first)
    )


def _meeting(shape: ObjectWriter, needs: frozenset[int], taken: frozenset[str]) -> Iterator[tuple[Member, ...]]:
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


def _fewest_with(shape: ObjectWriter, met: tuple[Member, ...], first: bool) -> Iterator[Fewest]:
    """With the keys that these members imply; behind others, which may be any, with all that any key implies. Where
    more are needed, without a key that implies others, or with one of them, or with as many as it takes."""
    item, implied = shape.item, closed(shape.item.implied)
    names = frozenset(member.name for member in met if member.name is not None)
    always = item.required.union(*(others for key, others in implied.items() if key in names or not first))
    found = dict.fromkeys([always])
    if implied and item.low > len(always | names):
        able = sorted((key for key, _ in shape.named if key in implied), key=lambda key: len(implied[key]))
        room = len(shape.named) if item.high is None else item.high
        with_one = (always | implied[key] | {key} for key in able)
        found.update(dict.fromkeys(islice((keys for keys in with_one if len(keys) <= room), WAYS)))
        many = always.union(key for key, _ in shape.named if key not in implied)
        for key in able:
            many = many if len(many) >= item.low else many | implied[key] | {key}
        found.update(dict.fromkeys([many] if len(many) <= room else []))
    return (_fewest(shape, met, first, keys, implied) for keys in found)


def _fewest(
    shape: ObjectWriter,
    met: tuple[Member, ...],
    first: bool,
    required: frozenset[str],
    implied: dict[str, frozenset[str]],
) -> Fewest:
    """`required` and what these members are, and others of the keys that imply no more than that."""
    layout, value = shape.writer.layout, shape.writer.value
    needed = {member.name: member.value for member in met if member.name is not None}
    always: dict[str, Ranked] = {}
    others: list[Ranked] = []
    for rank, (key, _) in enumerate(shape.named):
        part = shape.parts[rank]
        if key in needed:
            always[key] = (rank, (*layout.key(key), *value(needed[key])))
        elif key in required:
            always[key] = (rank, part)
        elif implied.get(key, required) <= required:
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
