"""Single JSON values as shapes. Knows equality of JSON Schema (1 = 1.0, true is no number)."""

from __future__ import annotations

from typing import Any

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers import intervals
from engine.schema.sets.shape import ArrayShape, ObjectShape, Shape, StringSet
from engine.schema.sets.term import FALSE, Terms


def const_shape(terms: Terms, value: Any) -> Shape:
    """Exactly one value."""
    return enum_shape(terms, [value])


def enum_shape(terms: Terms, values: list[Any]) -> Shape:
    """Exactly these values. Linear, but for the automaton of the strings."""
    strings = Automaton.of(value for value in values if isinstance(value, str))
    numbers = {intervals.rational(v): None for v in values if isinstance(v, int | float) and not isinstance(v, bool)}
    arrays = {_array(terms, value): None for value in values if isinstance(value, list)}
    objects = {_object(terms, value): None for value in values if isinstance(value, dict)}
    return Shape(
        None in values,
        frozenset(value for value in values if isinstance(value, bool)),
        tuple(intervals.point(number) for number in numbers),
        () if strings.is_empty else (StringSet(strings),),
        tuple(arrays),
        tuple(objects),
    )


def _array(terms: Terms, value: list[Any]) -> ArrayShape:
    return ArrayShape(tuple(terms.const(item) for item in value), FALSE, len(value), len(value))


def _object(terms: Terms, value: dict[str, Any]) -> ObjectShape:
    named = tuple((key, terms.const(item)) for key, item in value.items())
    return ObjectShape(named, (), frozenset(value))
