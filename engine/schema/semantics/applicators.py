"""Applicators that divide the values: anyOf, oneOf, not, if/then/else, dependencies. Each gives shapes to intersect.

Exact through complements where these can be had; where not, the keyword is named `checked` and its shape is a superset.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

from engine.errors import LimitExceeded
from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.reading.dialect import Draft
from engine.schema.reading.reference import Location, Scope
from engine.schema.semantics.contents import holds_documents
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.semantics.object_keywords import string_list
from engine.schema.sets import algebra
from engine.schema.sets.shape import ALL_ITEMS, EVERYTHING, NOTHING, UNKNOWN, ArrayShape, ObjectShape, Shape
from engine.schema.sets.term import FALSE, Term

SUBSETS = 4
"""anyOf branches of which every subset is formed under unevaluated*."""
TIMID_SPLITS = 2
SPLITS = 6
"""Schemas that keys of one object imply, each split into 'key absent' and 'key present'."""
VAGUE = "its complement is not held exactly"


def any_of(evaluator: Evaluator, at: Location, scope: Scope, annotated: bool) -> list[Shape]:
    """At least one branch."""
    if not isinstance(at.schema.get("anyOf"), list):
        return []
    terms = _branches(evaluator, at, scope, "anyOf")
    shapes = [evaluator.shape(term, annotated) for term in terms]
    if annotated:
        if len(shapes) <= SUBSETS:
            shapes.extend(_together(evaluator, shapes))
        else:
            shapes = [_unseen(shape) for shape in shapes]
    return [algebra.unite(evaluator.terms, shapes)]


def one_of(evaluator: Evaluator, at: Location, scope: Scope, annotated: bool, within: Shape) -> Shape:
    """Values of `within` in exactly one branch: each branch without the others it can overlap there."""
    if not isinstance(at.schema.get("oneOf"), list):
        return within
    terms = _branches(evaluator, at, scope, "oneOf")
    parts: list[Shape] = []
    for index, term in enumerate(terms):
        shape = evaluator.intersect(within, evaluator.shape(term, annotated))
        for other in (*terms[:index], *terms[index + 1 :]):
            shape = _without(evaluator, at, "oneOf", shape, term, other)
        parts.append(shape)
    return algebra.unite(evaluator.terms, parts)


def negation(evaluator: Evaluator, at: Location, scope: Scope, _annotated: bool) -> list[Shape]:
    """Everything but the subschema."""
    if not isinstance(at.schema.get("not"), dict | bool):
        return []
    term = evaluator.child(at, scope, "not")
    if not evaluator.is_exact(term):
        evaluator.report.mark(at, "not", "checked", VAGUE)
        return [UNKNOWN]
    try:
        return [evaluator.shape(evaluator.terms.negate(term))]
    except (LimitExceeded, AutomatonTooLarge) as error:
        evaluator.report.mark(at, "not", "checked", str(error))
        return [UNKNOWN]


def conditional(evaluator: Evaluator, at: Location, scope: Scope, annotated: bool) -> list[Shape]:
    """`if` and `then`, or not `if` and `else`."""
    schema = at.schema
    if at.draft < Draft.D7 or "if" not in schema or not ("then" in schema or "else" in schema or annotated):
        return []
    test = evaluator.child(at, scope, "if")
    then = _branch(evaluator, at, scope, "then", annotated)
    otherwise = _branch(evaluator, at, scope, "else", annotated)
    # With a string that is read both ways, `then` may speak of it as the specification reads it, and `else` as we do.
    if not (evaluator.bold and evaluator.is_exact(test)) or holds_documents(evaluator, (test,)):
        for keyword in ("if", "then", "else"):
            if keyword in schema:
                evaluator.report.mark(at, keyword, "checked", f"`if` decides, and {VAGUE}")
        return [algebra.unite(evaluator.terms, [then, otherwise]), _unseen(UNKNOWN) if annotated else UNKNOWN]
    met = evaluator.intersect(evaluator.shape(test, annotated), then)
    unmet = evaluator.intersect(evaluator.shape(evaluator.terms.negate(test)), otherwise)
    return [algebra.unite(evaluator.terms, [met, unmet])]


def dependencies(evaluator: Evaluator, at: Location, scope: Scope, annotated: bool) -> list[Shape]:
    """dependentRequired, dependentSchemas and dependencies: keys that imply keys, and per key that implies a schema
    'absent' or 'present and what follows'."""
    pairs = set[tuple[str, str]]()
    found: list[Shape] = []
    for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
        rules = at.schema.get(keyword)
        if keyword != "dependencies" and at.draft < Draft.D2019:
            continue
        for key, rule in rules.items() if isinstance(rules, dict) else ():
            if isinstance(rule, list):
                pairs.update((key, name) for name in string_list(rule))
            else:
                found.append(_dependency(evaluator, at, scope, keyword, key, annotated))
    keys = [_only_objects(ObjectShape(implied=frozenset(pairs)))] if pairs else []
    splits = SPLITS if evaluator.bold else TIMID_SPLITS
    if len(found) > splits:
        for keyword in ("dependencies", "dependentSchemas"):
            if keyword in at.schema:
                evaluator.report.mark(at, keyword, "checked", f"more than {splits} schemas for keys of one object")
        return [*keys, *found[:splits], _unseen(UNKNOWN) if annotated else UNKNOWN]
    return [*keys, *found]


def _dependency(evaluator: Evaluator, at: Location, scope: Scope, keyword: str, key: str, annotated: bool) -> Shape:
    absent = _only_objects(ObjectShape(named=((key, FALSE),)))
    present = evaluator.intersect(
        _only_objects(ObjectShape(required=frozenset({key}))),
        evaluator.shape(evaluator.child(at, scope, keyword, key), annotated),
    )
    return algebra.unite(evaluator.terms, [absent, _replace_objects(NOTHING, present.objects, present.exact)])


def _only_objects(*objects: ObjectShape) -> Shape:
    """Everything that is no object, and these objects."""
    return _replace_objects(EVERYTHING, objects, True)


def _replace_objects(shape: Shape, objects: tuple[ObjectShape, ...], exact: bool) -> Shape:
    return Shape(shape.null, shape.booleans, shape.numbers, shape.strings, shape.arrays, objects, exact)


def _branches(evaluator: Evaluator, at: Location, scope: Scope, keyword: str) -> list[Term]:
    return [evaluator.child(at, scope, keyword, str(i)) for i in range(len(at.schema[keyword]))]


def _branch(evaluator: Evaluator, at: Location, scope: Scope, keyword: str, annotated: bool) -> Shape:
    return evaluator.shape(evaluator.child(at, scope, keyword), annotated) if keyword in at.schema else EVERYTHING


def _without(evaluator: Evaluator, at: Location, keyword: str, shape: Shape, term: Term, other: Term) -> Shape:
    """`shape` (in `term`) less the values of `other`."""
    try:
        taken = evaluator.shape(other)
        # Strings may be held narrower than they are meant: that no two of those overlap proves nothing.
        sure = not (shape.strings and taken.strings) or (shape.exact and taken.exact)
        sure = sure and (evaluator.is_exact(other) or not evaluator.schemas.holds_contents)
        # What stands beside the branches may require the key that tells them apart.
        if sure and evaluator.intersect(shape, taken).is_empty:
            return shape
        if sure and evaluator.is_empty(evaluator.terms.all_of((term, other))):
            return shape
        # What the two share may be told exactly where `other` is not.
        exact = (one for one in (other, evaluator.terms.all_of((term, other))) if evaluator.is_exact(one))
        taking = next(exact, None) if evaluator.bold else None
        if taking is not None:
            return evaluator.subtract(shape, taking)
        reason = VAGUE
    except (LimitExceeded, AutomatonTooLarge) as error:
        reason = str(error)
    evaluator.report.mark(
        at, keyword, "checked", f"branches overlap and {reason}", "make the branches differ by a required constant"
    )
    return Shape(shape.null, shape.booleans, shape.numbers, shape.strings, shape.arrays, shape.objects, exact=False)


def _together(evaluator: Evaluator, shapes: list[Shape]) -> list[Shape]:
    """Intersections of two branches and more: a value of several branches has what all of them evaluate."""
    found: list[Shape] = []
    for size in range(2, len(shapes) + 1):
        for chosen in combinations(shapes, size):
            shape = chosen[0]
            for other in chosen[1:]:
                shape = evaluator.intersect(shape, other)
            found.append(shape)
    return found


def _unseen(shape: Shape) -> Shape:
    """The same with everything evaluated, which lets unevaluated* refuse nothing."""
    objects = tuple(replace(item, seen_keys=Automaton.anything(), vague=True) for item in shape.objects)
    arrays: tuple[ArrayShape, ...] = tuple(replace(array, seen_items=ALL_ITEMS, vague=True) for array in shape.arrays)
    return replace(shape, objects=objects, arrays=arrays, exact=False)
