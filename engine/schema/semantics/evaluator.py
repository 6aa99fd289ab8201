"""What a term means: its shape, found by opening subschemas on demand. Recursion ends because shapes are remembered.

Knows how shapes combine and when a term is empty or exact. Keywords are given their meaning by the modules it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

from engine.errors import LimitExceeded
from engine.schema.reading.reference import Location, Schemas, Scope
from engine.schema.sets import algebra
from engine.schema.sets.complement import complement, subtract
from engine.schema.sets.constant import const_shape
from engine.schema.sets.shape import EVERYTHING, NOTHING, UNKNOWN, ArrayShape, ObjectShape, Shape
from engine.schema.sets.term import FALSE, TRUE, Term, Terms
from engine.schema.verdicts.report import Report

EMPTINESS_DEPTH = 8
"""How far a test for emptiness looks into children; beyond it a term counts as not empty (which is always sound)."""
WORK_LIMIT = 10_000
"""Pairs of alternatives that are combined boldly: a tenth of a second, lost where they are more. One of 1,200 real
schemas needs more, the others at most half."""


class Undecided(Exception):
    """A question met a term whose shape is being found; a reference loop without a question is no error."""


class Evaluator:
    """One lowering's table of shapes. `node_shape(evaluator, at, scope, annotated)` is what one subschema says. `bold`:
    use complements and products; off after they grew too large."""

    def __init__(self, schemas: Schemas, report: Report, node_shape: NodeShape, *, bold: bool = True) -> None:
        self.schemas = schemas
        self.report = report
        self.terms = Terms()
        self._node_shape = node_shape
        self.bold = bold
        self._shapes: dict[tuple[Term, bool], Shape] = {}
        self._open: dict[tuple[Term, bool], int] = {}
        self._exact: dict[Term, bool] = {}
        self._outside: dict[Term, Shape] = {}
        """What is in none of these, objects left out."""
        self._assumed: set[Term] = set()
        self._testing: list[Term] = []
        self._asking = 0
        self._work = 0

    def shape(self, term: Term, annotated: bool = False) -> Shape:
        """The shape of a term. `annotated`: with what in-place applicators have evaluated (unevaluated*)."""
        key = (term, annotated)
        known = self._shapes.get(key)
        if known is not None:
            return known
        if key in self._open:
            if self._open[key] < self._asking:
                raise Undecided
            return EVERYTHING
        self._open[key] = self._asking
        try:
            shape = self._expand(term, annotated)
        finally:
            del self._open[key]
        self._shapes[key] = shape
        return shape

    def child(self, location: Location, scope: Scope, *path: str) -> Term:
        """The term of a subschema."""
        target = self.schemas.child(location, *path)
        return self.terms.node(target, self.schemas.enter(scope, target))

    def intersect(self, first: Shape, second: Shape) -> Shape:
        """Values in both shapes."""
        if first is EVERYTHING or second.is_empty:
            return second
        if second is EVERYTHING or first.is_empty:
            return first
        self.spend(1 + len(first.objects) * len(second.objects))
        return algebra.intersect(self.terms, self.is_empty, first, second)

    def complement(self, shape: Shape) -> Shape:
        """Values outside an exact shape."""
        self.spend(1 + len(shape.objects))
        return complement(self.terms, self.is_empty, shape)

    def subtract(self, shape: Shape, other: Term) -> Shape:
        """Values of a shape that are none of an exact term."""
        taken = self.shape(other)
        self.spend(1 + len(shape.objects) * len(taken.objects))
        if other not in self._outside:
            self._outside[other] = self.complement(replace(taken, objects=()))
        rest = self.intersect(replace(shape, objects=()), self._outside[other])
        return replace(rest, objects=subtract(self.terms, self.is_empty, shape.objects, taken.objects))

    def spend(self, amount: int) -> None:
        """Count work; raises LimitExceeded where a schema makes it explode."""
        self._work += amount
        if self._work > WORK_LIMIT:
            raise LimitExceeded("combining the schema's alternatives takes too much work", param="schema")

    def is_empty(self, term: Term) -> bool:
        """No value satisfies the term. Sound; may miss emptiness deep inside or behind recursion, and does where what
        strings hold was negated (see `complement`)."""
        if term in (TRUE, FALSE):
            return term == FALSE
        if term in self._testing or len(self._testing) >= EMPTINESS_DEPTH:
            return False
        known = self._shapes.get((term, False))
        if known is not None:
            return self._is_none(known)
        self._testing.append(term)
        try:
            return self._is_none(self.asked(term))
        except Undecided:
            return False
        finally:
            self._testing.pop()

    def asked(self, term: Term) -> Shape:
        """The shape of a term that may be in it by way of members and items; raises Undecided where that is open."""
        self._asking += 1
        try:
            return self.shape(term)
        finally:
            self._asking -= 1

    def _is_none(self, shape: Shape) -> bool:
        return shape.is_empty and (shape.exact or not self.schemas.holds_contents)

    def is_exact(self, term: Term) -> bool:
        """The shapes of the term and of everything below it say neither more nor less than the schema. Boldly
        assumed of those that are being found (see `assumptions_hold`)."""
        known = self._exact.get(term)
        if known is None:
            found, pending, known = {term}, [term], True
            while pending and known:
                part = pending.pop()
                if part in self._exact:
                    known = self._exact[part]
                    continue
                try:
                    shape = self.asked(part)
                except Undecided:
                    known = self.bold
                    self._assumed.add(part)
                    continue
                known = shape.exact and not any(array.unique for array in shape.arrays)
                fresh = [child for child in children(shape) if child not in found]
                found.update(fresh)
                pending += fresh
            self._exact.update(dict.fromkeys(found if known else (term,), known))
        return known

    def assumptions_hold(self) -> bool:
        """Whether what was assumed to be exact is so, now that all shapes are known."""
        self._exact.clear()
        seen = set[Term]()
        while left := self._assumed - seen if self.bold else None:  # asking may assume more
            if not all(map(self.is_exact, left)):
                return False
            seen |= left
        return True

    def _expand(self, term: Term, annotated: bool) -> Shape:
        self.spend(1)
        kind, parts = self.terms.kind(term), self.terms.parts(term)
        if kind in ("true", "false"):
            return EVERYTHING if kind == "true" else NOTHING
        if kind == "const":
            return const_shape(self.terms, self.terms.constants[term])
        if kind == "node":
            return self._node_shape(self, *self.terms.nodes[term], annotated)
        if kind == "not":
            return self.complement(self.shape(parts[0])) if self.is_exact(parts[0]) else UNKNOWN
        shapes = (self.shape(part, annotated) for part in parts)
        return reduce(self.intersect, shapes, EVERYTHING) if kind == "all" else algebra.unite(self.terms, [*shapes])


NodeShape = Callable[[Evaluator, Location, Scope, bool], Shape]


def children(shape: Shape) -> list[Term]:
    """The terms of members and items, each once."""
    found: dict[Term, None] = {}
    for array in shape.arrays:
        found.update(dict.fromkeys(_array_children(array)))
    for item in shape.objects:
        found.update(dict.fromkeys(_object_children(item)))
    return list(found)


def _array_children(array: ArrayShape) -> list[Term]:
    return [*array.prefix, array.rest, *(need.term for need in array.contains)]


def _object_children(item: ObjectShape) -> list[Term]:
    return [
        *(term for _, term in item.named),
        *(part.value for part in item.others),
        *(need.value for need in item.needs),
    ]
