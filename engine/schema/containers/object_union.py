"""Objects, one shape or several written together: a rule knows which shapes are still possible, guards look at the
members.

Written side by side, shapes that differ in a few members keep a parser state each, in every object around and inside
them. Shapes with patterns or needs are left to `objects`.
"""

from __future__ import annotations

from functools import cached_property

from engine.schema.automata.automaton import Automaton
from engine.schema.containers.key_trie import write_members
from engine.schema.containers.object_members import Member
from engine.schema.containers.objects import ObjectWriter, fewest_members
from engine.schema.containers.parameter_objects import ParameterObject
from engine.schema.containers.value_writer import ValueWriter
from engine.schema.rules import object_guards
from engine.schema.rules.grammar import Ref, Sequence, Way
from engine.schema.rules.guards import Guard, Members
from engine.schema.rules.layout import Follow
from engine.schema.rules.shortest import Fewest
from engine.schema.semantics.occurrences import mark
from engine.schema.sets.object_forms import Refuse, divided, written_forms
from engine.schema.sets.shape import ObjectShape
from engine.schema.sets.term import FALSE, Term

STATES, MEMBERS = 4, 20_000
"""Rules a shape, and members that all rules of one union may offer; with more, shapes are written side by side."""

Possible = tuple[int, ...]
"""The numbers of the shapes that an object can still be of."""
_Edge = tuple[str | None, Term]
"""A declared key (None: any other key) and what its value must satisfy."""


def write_objects(writer: ValueWriter, items: tuple[ObjectShape, ...], follow: Follow, term: Term) -> list[Ref]:
    """Rules for what follows the opening brace of one of these shapes; equal ones in equal places are written once."""
    if not writer.counted:
        parts = [part for item in items for part in _divided(writer, item, term)]
        return [ParameterObject(writer, part, follow, term).write() for part in parts]
    known = writer.objects.get((items, follow))
    shapes = [ObjectWriter(writer, form, follow, term) for item in items for form in _forms(writer, item, term)]
    if known is None:
        known = writer.objects[items, follow] = _write(writer, shapes)
    return known


def _forms(writer: ValueWriter, item: ObjectShape, term: Term) -> list[ObjectShape]:
    return written_forms(writer.evaluator.terms, writer.is_empty, item, _refusing(writer, term))


def _divided(writer: ValueWriter, item: ObjectShape, term: Term) -> list[ObjectShape]:
    """Without keys that imply others."""
    keys = sorted({key for key, _ in item.implied})
    return divided(writer.is_empty, item, keys, _refusing(writer, term))


def _refusing(writer: ValueWriter, term: Term) -> Refuse:
    def refuse(keywords: tuple[str, ...], reason: str) -> None:
        mark(writer.evaluator, term, keywords, "checked", reason)

    return refuse


def _write(writer: ValueWriter, shapes: list[ObjectWriter]) -> list[Ref]:
    plain = [shape for shape in shapes if shape.is_plain]
    refs = [shape.write() for shape in shapes if not shape.is_plain]
    if not plain:
        return refs
    union = UnionWriter(writer, plain)
    if union.explore():
        return [union.write(), *refs]
    return [*(UnionWriter(writer, [shape]).write() for shape in plain), *refs]


class UnionWriter:
    """Writes plain shapes together."""

    def __init__(self, writer: ValueWriter, shapes: list[ObjectWriter]) -> None:
        self.writer = writer
        self.shapes = shapes
        self.values = [dict(shape.named) for shape in shapes]
        self.names = tuple(dict.fromkeys(key for shape in shapes for key, _ in shape.item.named))
        names = frozenset(self.names)
        self.regions = [shape.region(names) for shape in shapes]
        self._together: dict[tuple[tuple[_Edge, ...], tuple[Members, ...]], tuple[Sequence, Guard | None]] = {}
        self._needed: dict[tuple[int, bool], tuple[Fewest, ...]] = {}

    @cached_property
    def edges(self) -> dict[Possible, dict[Possible, list[_Edge]]]:
        """By the shapes that are possible, those that are so behind a member, and the members that lead there."""
        found: dict[Possible, dict[Possible, list[_Edge]]] = {}
        pending: list[Possible] = [tuple(range(len(self.shapes)))]
        while pending:
            state = pending.pop()
            if state not in found:
                found[state] = self._moves(state)
                pending.extend(found[state])
                if len(self.shapes) == 1:
                    continue
                if len(found) > STATES * len(self.shapes) or len(found) * len(self.names) > MEMBERS:
                    return {}
        return found

    def explore(self) -> bool:
        """Whether writing them together is worth it."""
        return bool(self.edges)

    def _moves(self, state: Possible) -> dict[Possible, list[_Edge]]:
        found: dict[Possible, list[_Edge]] = {}
        for values, keys in self.alike.items():
            asked: dict[Term, list[int]] = {}
            for number in state:
                asked.setdefault(values[number], []).append(number)
            for value, numbers in asked.items():
                if value != FALSE:
                    found.setdefault(tuple(numbers), []).extend([(key, value) for key in keys])
        return found

    @cached_property
    def alike(self) -> dict[tuple[Term, ...], list[str | None]]:
        """Keys, None for all that are not declared, by what each shape asks of them."""
        found: dict[tuple[Term, ...], list[str | None]] = {}
        for key in (*self.names, None):
            found.setdefault(tuple([self._value(number, key) for number in range(len(self.shapes))]), []).append(key)
        return found

    def _value(self, number: int, key: str | None) -> Term:
        """What a shape asks of a member with this key."""
        shape = self.shapes[number]
        other = shape.free[0][1] if shape.free else FALSE
        if key is None or key not in shape.item.values:
            return other
        return self.values[number].get(key, FALSE)

    def write(self) -> Ref:
        """The rule for what follows the opening brace, closing brace included."""
        start = tuple(range(len(self.shapes)))
        names = {state: self.writer.fresh("o") for state in self.edges}
        for state, targets in self.edges.items():
            self._write_rule(names[state], state, self._ways(state, targets, names, first=False), first=False)
        first = self.writer.fresh("o")
        self._write_rule(first, start, self._ways(start, self.edges[start], names, first=True), first=True)
        return Ref(first)

    def _write_rule(self, name: str, state: Possible, ways: list[Way], *, first: bool) -> None:
        self.writer.add_ways(name, ways, self.shapes[0].follow)
        fewest = [self._fewest(number, first) for number in state]
        if all(fewest):
            self.writer.fewest[name] = tuple(way for ways in fewest for way in ways)

    def _fewest(self, number: int, first: bool) -> tuple[Fewest, ...]:
        """What this shape must have, whatever others are possible beside it."""
        if (number, first) not in self._needed:
            self._needed[number, first] = fewest_members(self.shapes[number], frozenset(), first)
        return self._needed[number, first]

    def _ways(
        self, state: Possible, targets: dict[Possible, list[_Edge]], names: dict[Possible, str], *, first: bool
    ) -> list[Way]:
        layout = self.writer.layout
        comma = () if first else layout.comma()
        found: list[Way] = [(layout.closed("}"), object_guards.end([self.regions[number] for number in state]))]
        for target, edges in targets.items():
            symbols, guard = self._members(tuple(edges), tuple(self.regions[number] for number in target))
            found.append(((*comma, *symbols, Ref(names[target])), guard))
        return found

    def _members(self, edges: tuple[_Edge, ...], regions: tuple[Members, ...]) -> tuple[Sequence, Guard | None]:
        if (edges, regions) not in self._together:
            members = [Member(() if key is not None else self._any_key, value, key) for key, value in edges]
            self._together[edges, regions] = write_members(self.writer, members, regions)
        return self._together[edges, regions]

    @cached_property
    def _any_key(self) -> Sequence:
        return self.writer.key(Automaton.anything(), frozenset(self.names))
