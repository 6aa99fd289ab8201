"""And, or, not of shapes. Pure functions over plain data; children stay terms and are combined, never looked into,
but for the emptiness test the caller lends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from engine.errors import LimitExceeded
from engine.schema import intervals
from engine.schema.automaton import Automaton
from engine.schema.shape import (
    ANY_KEY,
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
from engine.schema.term import FALSE, TRUE, Terms

ALTERNATIVES = 128
"""Arrays or objects in one union; more is an exponential schema."""

IsEmpty = Callable[[int], bool]
T = TypeVar("T")


def intersect(terms: Terms, is_empty: IsEmpty, first: Shape, second: Shape) -> Shape:
    """Values in both."""
    return Shape(
        first.null and second.null,
        first.booleans & second.booleans,
        intervals.intersect(first.numbers, second.numbers),
        _capped(_strings(a, b) for a in first.strings for b in second.strings),
        _capped(_arrays(terms, is_empty, a, b) for a in first.arrays for b in second.arrays),
        _capped(_objects(terms, is_empty, a, b) for a in first.objects for b in second.objects),
        first.exact and second.exact,
    )


def unite(first: Shape, second: Shape) -> Shape:
    """Values in either."""
    return Shape(
        first.null or second.null,
        first.booleans | second.booleans,
        intervals.unite(first.numbers, second.numbers),
        _unite_strings(first.strings, second.strings),
        _capped((*first.arrays, *second.arrays)),
        _capped((*first.objects, *second.objects)),
        first.exact and second.exact,
    )


def complement(terms: Terms, is_empty: IsEmpty, shape: Shape) -> Shape:
    """Values that are not in an exact shape (the caller has made sure, children included)."""
    strings: tuple[StringSet, ...] = ANY_STRING
    for part in shape.strings:
        strings = _capped(_strings(a, b) for a in strings for b in _outside_string(part))
    arrays: tuple[ArrayShape, ...] = (ArrayShape(),)
    for array in shape.arrays:
        arrays = _capped(_arrays(terms, is_empty, a, b) for a in arrays for b in _outside_array(terms, array))
    objects: tuple[ObjectShape, ...] = (ObjectShape(),)
    for item in shape.objects:
        objects = _capped(_objects(terms, is_empty, a, b) for a in objects for b in _outside_object(terms, item))
    numbers = intervals.complement(shape.numbers)
    return Shape(not shape.null, BOTH - shape.booleans, numbers, strings, arrays, objects)


def _capped(parts: Iterable[T | None]) -> tuple[T, ...]:
    found: dict[T, None] = {}
    for part in parts:
        if part is not None:
            found[part] = None
            if len(found) > ALTERNATIVES:
                raise LimitExceeded(f"more than {ALTERNATIVES} alternatives in one place", param="schema")
    return tuple(found)


def meet(first: Automaton, second: Automaton) -> Automaton:
    """Intersection with the common cases taken for free."""
    if first.is_universal or second.is_universal:
        return second if first.is_universal else first
    return first if first == second else _product(first, second)


@lru_cache(maxsize=4096)
def _product(first: Automaton, second: Automaton) -> Automaton:
    return first & second


def _strings(a: StringSet, b: StringSet) -> StringSet | None:
    high = b.high if a.high is None else a.high if b.high is None else min(a.high, b.high)
    both = StringSet(meet(a.automaton, b.automaton), max(a.low, b.low), high)
    return None if both.is_empty else both


def _unite_strings(first: tuple[StringSet, ...], second: tuple[StringSet, ...]) -> tuple[StringSet, ...]:
    """One automaton for all that have no long bounds."""
    union: Automaton | None = None
    bounded: list[StringSet] = []
    for part in (*first, *second):
        if part.low or part.high is not None:
            bounded.append(part)
        elif union is None or part.automaton.is_universal:
            union = part.automaton
        elif not union.is_universal:
            union = union | part.automaton
    return _capped([*([] if union is None else [StringSet(union)]), *bounded])


def _outside_string(part: StringSet) -> list[StringSet]:
    outside = ~part.automaton
    found = [] if outside.is_empty else [StringSet(outside)]
    if part.low:
        found.append(StringSet(Automaton.anything(), 0, part.low - 1))
    if part.high is not None:
        found.append(StringSet(Automaton.anything(), part.high + 1))
    return found


def _arrays(terms: Terms, is_empty: IsEmpty, a: ArrayShape, b: ArrayShape) -> ArrayShape | None:
    high = b.high if a.high is None else a.high if b.high is None else min(a.high, b.high)
    size = max(len(a.prefix), len(b.prefix))
    return settle_array(
        is_empty,
        ArrayShape(
            tuple(terms.all_of((a.item(i), b.item(i))) for i in range(size)),
            terms.all_of((a.rest, b.rest)),
            max(a.low, b.low),
            high,
            tuple(dict.fromkeys(a.contains + b.contains)),
            a.unique or b.unique,
            max(a.seen_items, b.seen_items),
            a.seen_terms | b.seen_terms,
        ),
    )


def settle_array(is_empty: IsEmpty, array: ArrayShape) -> ArrayShape | None:
    """The same arrays with impossible positions turned into a length limit; None when there are none."""
    for index, term in enumerate(array.prefix):
        if is_empty(term):
            high = index if array.high is None else min(index, array.high)
            array = replace(array, prefix=array.prefix[:index], rest=FALSE, high=high)
            break
    else:
        if array.rest != FALSE and is_empty(array.rest):
            array = replace(array, rest=FALSE)
        if array.rest == FALSE and (array.high is None or array.high > len(array.prefix)):
            array = replace(array, high=len(array.prefix))
    if array.high is not None and array.high < array.low:
        return None
    if any(need.low and is_empty(need.term) for need in array.contains):
        return None
    return array


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


def _objects(terms: Terms, is_empty: IsEmpty, a: ObjectShape, b: ObjectShape) -> ObjectShape | None:
    high = b.high if a.high is None else a.high if b.high is None else min(a.high, b.high)
    seen = a.seen_keys if b.seen_keys is None else b.seen_keys if a.seen_keys is None else a.seen_keys | b.seen_keys
    return settle_object(
        is_empty,
        ObjectShape(
            _merge_named(terms, a, b),
            tuple(_merge_others(terms, a, b)),
            a.required | b.required,
            tuple(dict.fromkeys(a.needs + b.needs)),
            max(a.low, b.low),
            high,
            a.seen_names | b.seen_names,
            seen,
        ),
    )


def _merge_named(terms: Terms, a: ObjectShape, b: ObjectShape) -> tuple[tuple[str, int], ...]:
    first, second = dict(a.named), dict(b.named)
    merged: dict[str, int] = {}
    for key in (*first, *second):
        if key not in merged:
            left = first[key] if key in first else a.other(key)
            right = second[key] if key in second else b.other(key)
            merged[key] = terms.all_of((left, right))
    return tuple(merged.items())


def _merge_others(terms: Terms, a: ObjectShape, b: ObjectShape) -> Iterable[Others]:
    for left in a.others:
        for right in b.others:
            value = terms.all_of((left.value, right.value))
            keys = meet(left.keys, right.keys)
            if value != FALSE and not keys.is_empty:
                yield Others(keys, value, left.explicit or right.explicit)


def settle_object(is_empty: IsEmpty, item: ObjectShape) -> ObjectShape | None:
    """The same objects with every required key named; None when a requirement cannot be met."""
    named = dict(item.named)
    for key in sorted(item.required - named.keys()):
        named[key] = item.other(key)
    if any(is_empty(named[key]) for key in item.required):
        return None
    if any(need.keys.is_empty or is_empty(need.value) for need in item.needs):
        return None
    low = max(item.low, len(item.required))
    high = item.high
    if not item.others:
        possible = sum(term != FALSE for term in named.values())
        high = None if high is not None and high >= possible else high
        if low > possible:
            return None
    if high is not None and low > high:
        return None
    return replace(item, named=tuple(named.items()), low=0 if low <= len(item.required) else low, high=high)


def _outside_object(terms: Terms, item: ObjectShape) -> list[ObjectShape]:
    found = [ObjectShape(named=((key, FALSE),)) for key in sorted(item.required)]
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
        keys = meet(part.keys, free)
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


__all__ = ["ANY_KEY", "complement", "intersect", "meet", "settle_array", "settle_object", "unite"]
