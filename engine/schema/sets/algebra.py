"""And, or of shapes. Pure functions over plain data; children stay terms and are combined, never looked into,
but for the emptiness test the caller lends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import reduce
from typing import TypeVar

from engine.errors import LimitExceeded
from engine.schema.automata.automaton import Automaton
from engine.schema.numbers import intervals
from engine.schema.sets.lengths import lower_of
from engine.schema.sets.pattern_counts import both_strings, restricted
from engine.schema.sets.shape import (
    ANY_STRING,
    ArrayShape,
    ObjectShape,
    Others,
    Shape,
    StringSet,
)
from engine.schema.sets.subsumption import ALTERNATIVES, widest
from engine.schema.sets.term import FALSE, Term, Terms

IsEmpty = Callable[[int], bool]
T = TypeVar("T")


def intersect(terms: Terms, is_empty: IsEmpty, first: Shape, second: Shape) -> Shape:
    """Values in both."""
    return Shape(
        first.null and second.null,
        first.booleans & second.booleans,
        intervals.intersect(first.numbers, second.numbers),
        _strings_in_both(terms, first.strings, second.strings),
        capped(both_arrays(terms, is_empty, a, b) for a in first.arrays for b in second.arrays),
        widest(terms, (both_objects(terms, is_empty, a, b) for a in first.objects for b in second.objects)),
        first.exact and second.exact,
    )


def unite(terms: Terms, shapes: Sequence[Shape]) -> Shape:
    """Values in any."""
    return Shape(
        any(shape.null for shape in shapes),
        frozenset().union(*(shape.booleans for shape in shapes)),
        reduce(intervals.unite, (shape.numbers for shape in shapes), ()),
        reduce(_unite_strings, (shape.strings for shape in shapes), ()),
        capped(array for shape in shapes for array in shape.arrays),
        widest(terms, (item for shape in shapes for item in shape.objects)),
        all(shape.exact for shape in shapes),
    )


def capped(parts: Iterable[T | None]) -> tuple[T, ...]:
    found: dict[T, None] = {}
    for part in parts:
        if part is not None:
            found[part] = None
            if len(found) > ALTERNATIVES:
                raise LimitExceeded(f"more than {ALTERNATIVES} alternatives in one place", param="schema")
    return tuple(found)


def _strings_in_both(
    terms: Terms, first: tuple[StringSet, ...], second: tuple[StringSet, ...]
) -> tuple[StringSet, ...]:
    if ANY_STRING in (first, second):
        return second if first == ANY_STRING else first
    return capped(_both_strings(terms, a, b) for a in first for b in second)


def _both_strings(terms: Terms, a: StringSet, b: StringSet) -> StringSet | None:
    both, contents = both_strings(a, b), [part.content for part in (a, b) if part.content is not None]
    return replace(both, content=terms.all_of(contents)) if both and contents else both


def _unite_strings(first: tuple[StringSet, ...], second: tuple[StringSet, ...]) -> tuple[StringSet, ...]:
    """One automaton for all that have the same bounds and counts."""
    union: dict[tuple[int, int | None, str | None, Term | None], Automaton] = {}
    for part in (*first, *second):
        bounds = part.low, part.high, part.pattern, part.content
        union[bounds] = union[bounds] | part.automaton if bounds in union else part.automaton
    parts = (restricted(StringSet(automaton, *bounds), 0, None) for bounds, automaton in union.items())
    contents = (content for *_, content in union)
    return capped(part and replace(part, content=content) for part, content in zip(parts, contents, strict=True))


def both_arrays(terms: Terms, is_empty: IsEmpty, a: ArrayShape, b: ArrayShape) -> ArrayShape | None:
    high = lower_of(a.high, b.high)
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
            a.vague or b.vague,
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
    if array.unique and array.high is not None and array.high <= 1:
        array = replace(array, unique=False)
    if any(need.low and is_empty(need.term) for need in array.contains):
        return None
    return array


def both_objects(terms: Terms, is_empty: IsEmpty, a: ObjectShape, b: ObjectShape) -> ObjectShape | None:
    known = dict.fromkeys(_values_in_both(terms, a, b, a.required | b.required))
    if any(map(is_empty, known)):  # most pairs fail here, so that nothing else of them is put together
        return None
    high = lower_of(a.high, b.high)
    seen = a.seen_keys if b.seen_keys is None else b.seen_keys if a.seen_keys is None else a.seen_keys | b.seen_keys
    return settle_object(
        is_empty,
        ObjectShape(
            tuple(zip(keys := {**a.values, **b.values}, _values_in_both(terms, a, b, keys), strict=True)),
            a.others if a.others == b.others else tuple(_merge_others(terms, a, b)),
            a.required | b.required,
            tuple(dict.fromkeys(a.needs + b.needs)),
            max(a.low, b.low),
            high,
            a.seen_names | b.seen_names,
            seen,
            a.vague or b.vague,
            a.implied | b.implied,
            a.declared or b.declared,
        ),
    )


def _values_in_both(terms: Terms, a: ObjectShape, b: ObjectShape, keys: Collection[str]) -> list[Term]:
    """What the value of each key must satisfy in both: most of the work where many branches meet."""
    both, first, second = terms.both, a.values, b.values
    free, other = (item.free_value if item.others else FALSE for item in (a, b))
    if free is None or other is None:
        return [both(a.value(key), b.value(key)) for key in keys]
    return [both(first.get(key, free), second.get(key, other)) for key in keys]


def _merge_others(terms: Terms, a: ObjectShape, b: ObjectShape) -> Iterable[Others]:
    for left in a.others:
        for right in b.others:
            value = terms.all_of((left.value, right.value))
            keys = left.keys & right.keys
            if value != FALSE and not keys.is_empty:
                yield Others(keys, value, left.explicit or right.explicit)


def settle_object(is_empty: IsEmpty, item: ObjectShape) -> ObjectShape | None:
    """The same objects with every key named that is required or depends on another; None when a requirement cannot be
    met."""
    named = dict(item.named)
    for key in sorted(item.required.union(*item.implied) - named.keys()):
        named[key] = item.other(key)
    if item.implied:
        item = _settle_implied(is_empty, item, named)
    if any(is_empty(named[key]) for key in sorted(item.required)):
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
    low = 0 if low <= len(item.required) else low
    pairs = tuple(named.items())
    if (pairs, low, high) == (item.named, item.low, item.high):
        return item
    return replace(item, named=pairs, low=low, high=high)


def _settle_implied(is_empty: IsEmpty, item: ObjectShape, named: dict[str, Term]) -> ObjectShape:
    """The same with all that required keys imply among them, and in `named` no key that implies what cannot be."""
    implied = closed(item.implied)
    required = item.required.union(*(implied.get(key, ()) for key in item.required))
    for key, others in implied.items():
        size = len(required | others | {key})
        if any(is_empty(named[name]) for name in others) or (item.high is not None and size > item.high):
            named[key] = FALSE
    left = ((key, other) for key, others in implied.items() for other in others - required if named[key] != FALSE)
    return replace(item, required=required, implied=frozenset(left))


def closed(implied: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """By key, all others that are there with it, be it for the sake of one another."""
    direct: dict[str, set[str]] = {}
    for key, other in sorted(implied):
        direct.setdefault(key, set()).add(other)
    found: dict[str, frozenset[str]] = {}
    for key in direct:
        reached, pending = {key}, [key]
        while pending:
            onward = direct.get(pending.pop(), set()) - reached
            reached |= onward
            pending += onward
        found[key] = frozenset(reached - {key})
    return {key: others for key, others in found.items() if others}
