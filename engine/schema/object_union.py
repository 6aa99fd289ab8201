"""Several object shapes written together: the members they share are read once, and each value cuts off the shapes that
do not allow it.

Written side by side, shapes that differ in a few members keep a parser state each, in every object around and inside
them. Knows members in any order; shapes with needs or patterns are left to `objects`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from engine.schema.automaton import Automaton
from engine.schema.grammar import Ref, Sequence
from engine.schema.object_state import Member, ObjectState
from engine.schema.objects import ObjectWriter
from engine.schema.term import FALSE, Term

if TYPE_CHECKING:
    from engine.schema.layout import Follow
    from engine.schema.shape import ObjectShape
    from engine.schema.values import ValueWriter

STATE_LIMIT = 1_500
"""Rules of one union."""

Joint = tuple[int, ...]
"""The places where an object may be, by number: a shape that is still possible, and how far it has come."""
_Edge = tuple[str | None, Term]
"""A declared key (None: any other key) and what its value must satisfy."""


def write_objects(writer: ValueWriter, items: tuple[ObjectShape, ...], follow: Follow, term: Term) -> list[Ref]:
    """Rules for what follows the opening brace of one of these shapes; equal ones in equal places are written once."""
    known = writer.objects.get((items, follow))
    if known is None:
        known = writer.objects[items, follow] = _write(writer, items, follow, term)
    else:
        for item in items:
            ObjectWriter(writer, item, follow, term)  # names at this term, too, what the rules cannot hold
    return known


def _write(writer: ValueWriter, items: tuple[ObjectShape, ...], follow: Follow, term: Term) -> list[Ref]:
    plain = [item for item in items if not item.needs and (not item.others or item.free_value is not None)]
    if writer.options.tight or len(plain) < 2:
        return [ObjectWriter(writer, item, follow, term).write() for item in items]
    union = UnionWriter(writer, plain, follow, term)
    if not union.explore():
        return [ObjectWriter(writer, item, follow, term).write() for item in items]
    rest = [item for item in items if item not in plain]
    return [union.write(), *(ObjectWriter(writer, item, follow, term).write() for item in rest)]


class UnionWriter:
    """Writes the union of shapes in any order; `explore` first."""

    def __init__(self, writer: ValueWriter, items: list[ObjectShape], follow: Follow, term: Term) -> None:
        self.writer = writer
        self.follow: Follow = follow
        self.shapes = [ObjectWriter(writer, item, follow, term) for item in items]
        self.values = [dict(shape.item.named) for shape in self.shapes]
        self.names = tuple(dict.fromkeys(key for values in self.values for key in values))
        tracked = frozenset[str]().union(*(shape.tracked for shape in self.shapes))
        self.telling = [key for key in (*self.names, None) if key in tracked or len(self._asked(key)) > 1]
        """Keys that tell the shapes apart; all others have one value everywhere and change nothing but the count."""
        plain = [key for key in (*self.names, None) if key not in self.telling]
        self.common = [(key, value) for key in plain for value in self._asked(key) if value != FALSE]
        self.places: list[tuple[int, ObjectState]] = []
        self._numbers: dict[tuple[int, ObjectState], int] = {}
        self._steps: dict[int, list[tuple[int, int]]] = {}
        self._behind: dict[int, int | None] = {}
        self._ranks = {key: rank for rank, key in enumerate(self.telling)}
        asked = [(key, value) for key in self.telling for value in self._asked(key) if value != FALSE]
        self._edges: list[_Edge] = asked
        numbers = {edge: number for number, edge in enumerate(asked)}
        self._offered = [
            [(numbers[key, value], key) for key in self.telling if (value := self._value(shape, key)) != FALSE]
            for shape in range(len(self.shapes))
        ]
        self._written: dict[int, frozenset[str]] = {}
        """Keys that a place knows to be there already; another one like it would be a repetition for all shapes."""
        self._members: dict[tuple[_Edge, ...], Sequence] = {}
        self.edges: dict[Joint, dict[Joint, list[_Edge]]] = {}

    def explore(self) -> bool:
        """Find all states; False when they are too many (twice as many as the shapes have alone)."""
        limit = min(2 * sum(shape.states for shape in self.shapes), STATE_LIMIT)
        queue = [self._start()]
        while queue:
            state = queue.pop()
            if state not in self.edges:
                if len(self.edges) >= limit:
                    return False
                self.edges[state] = self._moves(state)
                queue.extend(self.edges[state])
        return True

    def write(self) -> Ref:
        """The rule for what follows the opening brace, closing brace included."""
        names = {state: self.writer.fresh("o") for state in self.edges}
        for state, targets in self.edges.items():
            self.writer.add(names[state], self._alternatives(state, targets, names), self.follow)
        return Ref(names[self._start()])

    def _start(self) -> Joint:
        states = (ObjectState(0, shape.tracked, frozenset(), 0, True) for shape in self.shapes)
        return tuple(self._number(place) for place in enumerate(states))

    def _number(self, place: tuple[int, ObjectState]) -> int:
        number = self._numbers.setdefault(place, len(self.places))
        if number == len(self.places):
            self.places.append(place)
        return number

    def _asked(self, key: str | None) -> set[Term]:
        return {self._value(number, key) for number in range(len(self.shapes))}

    def _value(self, number: int, key: str | None) -> Term:
        """What shape `number` asks of a member with this key."""
        free = self.shapes[number].item.free_value
        other = FALSE if free is None else free
        return other if key is None else self.values[number].get(key, other)

    def _rank(self, edge: int) -> int:
        return self._ranks[self._edges[edge][0]]

    def _steps_from(self, number: int) -> list[tuple[int, int]]:
        """From one place, the telling keys that can come with what their values must satisfy, and the places behind."""
        if number not in self._steps:
            shape, state = self.places[number]
            writer, plain = self.shapes[shape], self._further(number)
            ahead = {key: self._number((shape, state.after(key, writer.count_to))) for key in state.missing}
            self._written[number] = writer.tracked - state.missing
            self._steps[number] = [
                (edge, plain if key is None else ahead.get(key, plain))
                for edge, key in self._offered[shape]
                if plain is not None
            ]
        return self._steps[number]

    def _moves(self, state: Joint) -> dict[Joint, list[_Edge]]:
        ways: defaultdict[int, list[int]] = defaultdict(list)
        for number in state:
            for edge, onward in self._steps_from(number):
                ways[edge].append(onward)
        written = frozenset[str | None]().union(*[self._written[number] for number in state])
        found: dict[Joint, list[_Edge]] = {}
        for edge in sorted(ways, key=self._rank):
            if self._edges[edge][0] not in written:
                found.setdefault(tuple(ways[edge]), []).append(self._edges[edge])
        further = tuple(after for number in state if (after := self._further(number)) is not None)
        if further and self.common:
            found.setdefault(further, []).extend(self.common)
        return found

    def _further(self, number: int) -> int | None:
        """The place behind a member that is in no way special; None when there is no room for it."""
        if number not in self._behind:
            shape, state = self.places[number]
            writer = self.shapes[shape]
            full = writer.is_full(state)
            self._behind[number] = None if full else self._number((shape, state.after(None, writer.count_to)))
        return self._behind[number]

    def _alternatives(self, state: Joint, targets: dict[Joint, list[_Edge]], names: dict[Joint, str]) -> list[Sequence]:
        layout = self.writer.layout
        places = [self.places[number] for number in state]
        comma = () if places[0][1].first else layout.comma()
        ends = any(self.shapes[shape].may_end(at) for shape, at in places)
        found: list[Sequence] = [layout.closed("}")] if ends else []
        for target, edges in targets.items():
            found.append((*comma, *self._together(tuple(edges)), Ref(names[target])))
        return found

    def _together(self, edges: tuple[_Edge, ...]) -> Sequence:
        if edges not in self._members:
            members = [Member(self._key(key), value, key) for key, value in edges]
            self._members[edges] = self.shapes[0].together(members)
        return self._members[edges]

    def _key(self, key: str | None) -> Sequence:
        if key is not None:
            return self.writer.declared_key(key)
        return self.writer.other_key(frozenset(self.names)) if self.names else self.writer.key(Automaton.anything())
