"""unevaluatedProperties and unevaluatedItems: what a subschema evaluates by itself, and the rule for what is left.

Every object and array of an annotated shape carries the keys and items its own branch has evaluated, so the keyword
acts branch by branch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from engine.schema.automata.automaton import Automaton
from engine.schema.reading.dialect import Draft
from engine.schema.reading.reference import Location, Scope
from engine.schema.regex.pattern import PatternInvalid, PatternUnsupported, from_pattern
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.sets.algebra import settle_array, settle_object
from engine.schema.sets.shape import ALL_ITEMS, ArrayShape, ObjectShape, Others, Shape
from engine.schema.sets.term import FALSE, Term


def unevaluated(evaluator: Evaluator, at: Location, scope: Scope, shape: Shape) -> Shape:
    """`shape` with what `at` itself evaluates noted, and its unevaluated* keywords applied."""
    objects = tuple(_see_keys(at, item) for item in shape.objects)
    found = frozenset[Term]()
    if at.draft >= Draft.D2019 and "contains" in at.schema:
        found = frozenset({evaluator.child(at, scope, "contains")})
    arrays = tuple(_see_items(at, array, found) for array in shape.arrays)
    if at.draft >= Draft.D2019 and "unevaluatedProperties" in at.schema:
        term = evaluator.child(at, scope, "unevaluatedProperties")
        _name(evaluator, at, "unevaluatedProperties", objects)
        objects = tuple(item for old in objects if (item := _limit_keys(evaluator, old, term)) is not None)
    if at.draft >= Draft.D2019 and "unevaluatedItems" in at.schema:
        term = evaluator.child(at, scope, "unevaluatedItems")
        _name(evaluator, at, "unevaluatedItems", arrays)
        arrays = tuple(array for old in arrays if (array := _limit_items(evaluator, old, term)) is not None)
    return replace(shape, objects=objects, arrays=arrays)


def _name(evaluator: Evaluator, at: Location, keyword: str, parts: Iterable[ObjectShape | ArrayShape]) -> None:
    if any(part.vague for part in parts):
        evaluator.report.mark(at, keyword, "checked", "what is evaluated under it is not known")


def _see_keys(at: Location, item: ObjectShape) -> ObjectShape:
    schema = at.schema
    names = frozenset(schema["properties"]) if isinstance(schema.get("properties"), dict) else frozenset()
    keys = item.seen_keys
    if "additionalProperties" in schema:
        keys = Automaton.anything()
    for pattern in schema.get("patternProperties") or ():
        try:
            found = from_pattern(pattern)
        except (PatternUnsupported, PatternInvalid):
            found = Automaton.anything()
        keys = found if keys is None else keys | found
    return replace(item, seen_names=item.seen_names | names, seen_keys=keys)


def _see_items(at: Location, array: ArrayShape, found: frozenset[Term]) -> ArrayShape:
    schema = at.schema
    items, prefix = schema.get("items"), schema.get("prefixItems")
    seen = array.seen_items
    if at.draft >= Draft.D2020:
        seen = max(seen, len(prefix) if isinstance(prefix, list) else 0)
        seen = ALL_ITEMS if "items" in schema else seen
    elif isinstance(items, list):
        seen = ALL_ITEMS if "additionalItems" in schema else max(seen, len(items))
    elif "items" in schema:
        seen = ALL_ITEMS
    return replace(array, seen_items=seen, seen_terms=array.seen_terms | found)


def _limit_keys(evaluator: Evaluator, item: ObjectShape, term: Term) -> ObjectShape | None:
    """Keys nobody has evaluated must satisfy `term`; afterwards all are evaluated."""
    seen = Automaton.nothing() if item.seen_keys is None else item.seen_keys
    terms = evaluator.terms
    named = {
        key: value if key in item.seen_names or seen.accepts(key) else terms.all_of((value, term))
        for key, value in item.named
    }
    for key in sorted(item.seen_names - named.keys()):
        named[key] = item.other(key)
    others: list[Others] = []
    for part in item.others:
        inside, outside = part.keys & seen, part.keys - seen
        both = terms.all_of((part.value, term))
        if not inside.is_empty:
            others.append(replace(part, keys=inside))
        if not outside.is_empty and both != FALSE:
            others.append(Others(outside, both, True))
    limited = replace(item, named=tuple(named.items()), others=tuple(others), seen_keys=Automaton.anything())
    return settle_object(evaluator.is_empty, limited)


def _limit_items(evaluator: Evaluator, array: ArrayShape, term: Term) -> ArrayShape | None:
    if array.seen_items >= ALL_ITEMS:
        return array
    term = evaluator.terms.any_of((term, *array.seen_terms))
    size = max(array.seen_items, len(array.prefix))
    both = [
        array.item(i) if i < array.seen_items else evaluator.terms.all_of((array.item(i), term)) for i in range(size)
    ]
    rest = evaluator.terms.all_of((array.rest, term))
    return settle_array(evaluator.is_empty, replace(array, prefix=tuple(both), rest=rest, seen_items=ALL_ITEMS))
