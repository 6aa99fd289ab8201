"""The keywords of arrays as one array shape. Knows how the drafts divide the items between keywords."""

from __future__ import annotations

from engine.schema.reading.dialect import Draft
from engine.schema.reading.reference import Location, Scope
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.semantics.scalar_keywords import count
from engine.schema.sets.algebra import settle_array
from engine.schema.sets.shape import ArrayShape, Contains
from engine.schema.sets.term import TRUE, Term


def array_shape(evaluator: Evaluator, at: Location, scope: Scope) -> tuple[ArrayShape | None, bool]:
    """What the array keywords of `at` allow (None: no array), and whether exactly that."""
    schema = at.schema
    prefix, rest = _positions(evaluator, at, scope)
    contains, exact = _contains(evaluator, at, scope)
    array = ArrayShape(
        prefix,
        rest,
        count(schema.get("minItems"), 0) or 0,
        count(schema.get("maxItems"), None),
        contains,
        schema.get("uniqueItems") is True,
    )
    return settle_array(evaluator.is_empty, array), exact


def _positions(evaluator: Evaluator, at: Location, scope: Scope) -> tuple[tuple[Term, ...], Term]:
    """What each leading item must be, and what the others must be."""
    schema = at.schema
    leading, following = ("prefixItems", "items") if at.draft >= Draft.D2020 else ("items", "additionalItems")
    tuples = schema.get(leading)
    if isinstance(tuples, list):
        prefix = tuple(evaluator.child(at, scope, leading, str(i)) for i in range(len(tuples)))
        return prefix, evaluator.child(at, scope, following) if following in schema else TRUE
    if isinstance(schema.get("items"), dict | bool):
        return (), evaluator.child(at, scope, "items")
    return (), TRUE


def _contains(evaluator: Evaluator, at: Location, scope: Scope) -> tuple[tuple[Contains, ...], bool]:
    schema = at.schema
    if at.draft < Draft.D6 or not isinstance(schema.get("contains"), dict | bool):
        return (), True
    low, high = 1, None
    if at.draft >= Draft.D2019:
        least = count(schema.get("minContains"), 1)
        low, high = 1 if least is None else least, count(schema.get("maxContains"), None)
    term = evaluator.child(at, scope, "contains")
    if high is not None and not (evaluator.bold and evaluator.is_exact(term)):
        evaluator.report.mark(at, "maxContains", "checked", "what is counted is not held exactly")
        return (Contains(term, low),), False
    return (() if low == 0 and high is None else (Contains(term, low, high),)), True
