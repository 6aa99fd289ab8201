"""Applicators that divide the values: anyOf, oneOf, not, if/then/else, dependencies. Each gives shapes to intersect.

Exact through complements where these can be had; where not, the keyword is named `checked` and its shape is a superset.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from engine.errors import LimitExceeded
from engine.schema import algebra
from engine.schema.automaton import Automaton
from engine.schema.dialect import Draft
from engine.schema.expand import Expander
from engine.schema.members import string_list
from engine.schema.reference import Location, Scope
from engine.schema.shape import ALL_ITEMS, EVERYTHING, NOTHING, UNKNOWN, ArrayShape, ObjectShape, Shape
from engine.schema.term import FALSE, Term

SUBSETS = 4
"""anyOf branches of which every subset is formed under unevaluated*."""
TIMID_SPLITS = 2
SPLITS = 6
"""Dependencies of one object that are each split into 'key absent' and 'key present'."""
VAGUE = "its complement is not held exactly"


def any_of(expander: Expander, at: Location, scope: Scope, annotated: bool) -> list[Shape]:
    """At least one branch."""
    if not isinstance(at.schema.get("anyOf"), list):
        return []
    terms = _branches(expander, at, scope, "anyOf")
    shapes = [expander.shape(term, annotated) for term in terms]
    if annotated:
        if len(shapes) <= SUBSETS:
            shapes.extend(_together(expander, shapes))
        else:
            for keyword in ("unevaluatedProperties", "unevaluatedItems"):
                expander.report.mark(at, keyword, "checked", "too many branches under it")
            shapes = [_unseen(shape) for shape in shapes]
    return [_union(expander, shapes)]


def one_of(expander: Expander, at: Location, scope: Scope, annotated: bool, within: Shape) -> Shape:
    """Values of `within` in exactly one branch: each branch without the others it can overlap there."""
    if not isinstance(at.schema.get("oneOf"), list):
        return within
    terms = _branches(expander, at, scope, "oneOf")
    parts: list[Shape] = []
    for index, term in enumerate(terms):
        shape = expander.intersect(within, expander.shape(term, annotated))
        for other in (*terms[:index], *terms[index + 1 :]):
            shape = _without(expander, at, "oneOf", shape, term, other)
        parts.append(shape)
    return _union(expander, parts)


def negation(expander: Expander, at: Location, scope: Scope, _annotated: bool) -> list[Shape]:
    """Everything but the subschema."""
    if not isinstance(at.schema.get("not"), dict | bool):
        return []
    term = expander.child(at, scope, "not")
    if not expander.is_exact(term):
        expander.report.mark(at, "not", "checked", VAGUE)
        return [UNKNOWN]
    try:
        return [expander.shape(expander.terms.negate(term))]
    except LimitExceeded as error:
        expander.report.mark(at, "not", "checked", error.message)
        return [UNKNOWN]


def conditional(expander: Expander, at: Location, scope: Scope, annotated: bool) -> list[Shape]:
    """`if` and `then`, or not `if` and `else`."""
    schema = at.schema
    if at.draft < Draft.D7 or "if" not in schema or not ("then" in schema or "else" in schema or annotated):
        return []
    test = expander.child(at, scope, "if")
    then = _branch(expander, at, scope, "then", annotated)
    otherwise = _branch(expander, at, scope, "else", annotated)
    if not (expander.bold and expander.is_exact(test)):
        for keyword in ("if", "then", "else"):
            if keyword in schema:
                expander.report.mark(at, keyword, "checked", f"`if` decides, and {VAGUE}")
        return [algebra.unite(expander.terms, then, otherwise), UNKNOWN]
    met = expander.intersect(expander.shape(test, annotated), then)
    unmet = expander.intersect(expander.shape(expander.terms.negate(test)), otherwise)
    return [algebra.unite(expander.terms, met, unmet)]


def dependencies(expander: Expander, at: Location, scope: Scope, annotated: bool) -> list[Shape]:
    """dependentRequired, dependentSchemas and dependencies: per key, 'absent' or 'present and what follows'."""
    found: list[Shape] = []
    for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
        rules = at.schema.get(keyword)
        if keyword != "dependencies" and at.draft < Draft.D2019:
            continue
        keys = rules if isinstance(rules, dict) else ()
        found.extend(_dependency(expander, at, scope, keyword, key, annotated) for key in keys)
    splits = SPLITS if expander.bold else TIMID_SPLITS
    if len(found) > splits:
        for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
            if keyword in at.schema:
                expander.report.mark(at, keyword, "checked", f"more than {splits} dependencies in one object")
        return [*found[:splits], UNKNOWN]
    return found


def _dependency(expander: Expander, at: Location, scope: Scope, keyword: str, key: str, annotated: bool) -> Shape:
    absent = _only_objects(ObjectShape(named=((key, FALSE),)))
    rule = at.schema[keyword][key]
    if isinstance(rule, list):
        return _only_objects(absent.objects[0], ObjectShape(required=frozenset({key, *string_list(rule)})))
    present = expander.intersect(
        _only_objects(ObjectShape(required=frozenset({key}))),
        expander.shape(expander.child(at, scope, keyword, key), annotated),
    )
    return algebra.unite(expander.terms, absent, _replace_objects(NOTHING, present.objects, present.exact))


def _only_objects(*objects: ObjectShape) -> Shape:
    """Everything that is no object, and these objects."""
    return _replace_objects(EVERYTHING, objects, True)


def _replace_objects(shape: Shape, objects: tuple[ObjectShape, ...], exact: bool) -> Shape:
    return Shape(shape.null, shape.booleans, shape.numbers, shape.strings, shape.arrays, objects, exact)


def _branches(expander: Expander, at: Location, scope: Scope, keyword: str) -> list[Term]:
    return [expander.child(at, scope, keyword, str(i)) for i in range(len(at.schema[keyword]))]


def _branch(expander: Expander, at: Location, scope: Scope, keyword: str, annotated: bool) -> Shape:
    return expander.shape(expander.child(at, scope, keyword), annotated) if keyword in at.schema else EVERYTHING


def _union(expander: Expander, shapes: list[Shape]) -> Shape:
    union = NOTHING
    for shape in shapes:
        union = algebra.unite(expander.terms, union, shape)
    return union


def _without(expander: Expander, at: Location, keyword: str, shape: Shape, term: Term, other: Term) -> Shape:
    """`shape` (in `term`) less the values of `other`."""
    try:
        taken = expander.shape(other)
        # Strings may be held narrower than they are meant: that no two of those overlap proves nothing.
        sure = not (shape.strings and taken.strings) or (shape.exact and taken.exact)
        # What stands beside the branches may require the key that tells them apart.
        if sure and expander.intersect(shape, taken).is_empty:
            return shape
        if sure and expander.is_empty(expander.terms.all_of((term, other))):
            return shape
        if expander.bold and expander.is_exact(other):
            return expander.subtract(shape, other)
        reason = VAGUE
    except LimitExceeded as error:
        reason = error.message
    expander.report.mark(
        at, keyword, "checked", f"branches overlap and {reason}", "make the branches differ by a required constant"
    )
    return Shape(shape.null, shape.booleans, shape.numbers, shape.strings, shape.arrays, shape.objects, exact=False)


def _together(expander: Expander, shapes: list[Shape]) -> list[Shape]:
    """Intersections of two branches and more: a value of several branches has what all of them evaluate."""
    found: list[Shape] = []
    for size in range(2, len(shapes) + 1):
        for chosen in combinations(shapes, size):
            shape = chosen[0]
            for other in chosen[1:]:
                shape = expander.intersect(shape, other)
            found.append(shape)
    return found


def _unseen(shape: Shape) -> Shape:
    """The same with everything evaluated, which lets unevaluated* refuse nothing."""
    objects = tuple(replace(item, seen_keys=Automaton.anything()) for item in shape.objects)
    arrays: tuple[ArrayShape, ...] = tuple(replace(array, seen_items=ALL_ITEMS) for array in shape.arrays)
    return replace(shape, objects=objects, arrays=arrays, exact=False)
