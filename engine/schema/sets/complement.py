"""Not of a shape. Pure; exact for exact shapes, so the caller makes sure of that before (see Evaluator.is_exact)."""

from __future__ import annotations

from dataclasses import replace

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers import intervals
from engine.schema.sets.algebra import IsEmpty, both_arrays, both_objects, capped
from engine.schema.sets.lengths import bounded
from engine.schema.sets.pattern_counts import both_strings, uncounted
from engine.schema.sets.shape import (
    ANY_STRING,
    BOTH,
    ArrayShape,
    Contains,
    Need,
    ObjectShape,
    Others,
    Shape,
    StringSet,
)
from engine.schema.sets.subsumption import widest
from engine.schema.sets.term import FALSE, TRUE, Terms


def complement(terms: Terms, is_empty: IsEmpty, shape: Shape) -> Shape:
    """Values that are not in an exact shape (the caller has made sure, children included).

    What strings hold decides nothing, as the specification says. So it is lost, and nobody may turn this back.
    """
    strings: tuple[StringSet, ...] = ANY_STRING
    for part in shape.strings:
        strings = capped(both_strings(a, b) for a in strings for b in _outside_string(part))
    arrays: tuple[ArrayShape, ...] = (ArrayShape(),)
    for array in shape.arrays:
        arrays = capped(both_arrays(terms, is_empty, a, b) for a in arrays for b in _outside_array(terms, array))
    objects: tuple[ObjectShape, ...] = (ObjectShape(),)
    for item in shape.objects:
        outside = _outside_object(terms, item)
        objects = widest(terms, (both_objects(terms, is_empty, a, b) for a in objects for b in outside))
    numbers = intervals.complement(shape.numbers)
    exact = all(part.content is None for part in shape.strings)
    return Shape(not shape.null, BOTH - shape.booleans, numbers, strings, arrays, objects, exact)


def subtract(
    terms: Terms, is_empty: IsEmpty, items: tuple[ObjectShape, ...], taken: tuple[ObjectShape, ...]
) -> tuple[ObjectShape, ...]:
    """Objects of `items` that are in none of `taken` (exact, children included). Only what overlaps is cut up."""
    for other in taken:
        outside: list[ObjectShape] | None = None
        parts: list[ObjectShape | None] = []
        for item in items:
            if both_objects(terms, is_empty, item, other) is None:
                parts.append(item)
                continue
            outside = outside or _outside_object(terms, other)
            parts.extend(both_objects(terms, is_empty, item, part) for part in outside)
        items = widest(terms, parts)
    return items


def _outside_string(part: StringSet) -> list[StringSet]:
    part = uncounted(part)
    outside = ~part.automaton
    found = [] if outside.is_empty else [StringSet(outside)]
    under = bounded(part.automaton, 0, part.low - 1)
    over = None if part.high is None else bounded(part.automaton, part.high + 1, None)
    return [*found, *(beside for beside in (under, over) if beside is not None)]


def _outside_array(terms: Terms, array: ArrayShape) -> list[ArrayShape]:
    found: list[ArrayShape] = []
    if array.low:
        found.append(ArrayShape(high=array.low - 1))
    if array.high is not None:
        found.append(ArrayShape(low=array.high + 1))
    for index, term in enumerate(array.prefix):
        if term != TRUE:
            found.append(ArrayShape((TRUE,) * index + (terms.negate(term),), low=index + 1))
    if array.rest not in (TRUE, FALSE):
        found.append(ArrayShape(contains=(Contains(terms.negate(array.rest), 1, None, len(array.prefix)),)))
    for need in array.contains:
        if need.low:
            found.append(ArrayShape(contains=(replace(need, low=0, high=need.low - 1),)))
        if need.high is not None:
            found.append(ArrayShape(contains=(replace(need, low=need.high + 1, high=None),)))
    return found


def _outside_object(terms: Terms, item: ObjectShape) -> list[ObjectShape]:
    found = [ObjectShape(named=((key, FALSE),)) for key in sorted(item.required)]
    for key, other in sorted(item.implied):
        found.append(ObjectShape(named=((other, FALSE),), required=frozenset({key})))
    if item.low:
        found.append(ObjectShape(high=item.low - 1))
    if item.high is not None:
        found.append(ObjectShape(low=item.high + 1))
    for key, term in item.named:
        if term != TRUE:
            found.append(ObjectShape(named=((key, terms.negate(term)),), required=frozenset({key})))
    named = Automaton.of(key for key, _ in item.named)
    free = ~named
    for part in item.others:
        keys = part.keys & free
        if part.value != TRUE and not keys.is_empty:
            found.append(ObjectShape(needs=(Need(keys, terms.negate(part.value)),)))
        free = free - part.keys
    if not free.is_empty:
        found.append(ObjectShape(needs=(Need(free, TRUE),)))
    found.extend(_without(terms, need) for need in item.needs)
    return found


def _without(terms: Terms, need: Need) -> ObjectShape:
    """Objects in which no member meets the need."""
    rest = ~need.keys
    others = [Others(need.keys, terms.negate(need.value))]
    if not rest.is_empty:
        others.append(Others(rest, TRUE))
    return ObjectShape(others=tuple(part for part in others if part.value != FALSE))
