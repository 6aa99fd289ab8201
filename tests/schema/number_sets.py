"""Sets of numbers by the keywords that bound them, as automata over their text."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers import number_text
from engine.schema.numbers.intervals import Interval


def exact(value: Any) -> Fraction:
    """The number as written: a float counts as its shortest decimal spelling."""
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _interval(
    minimum: Any = None,
    maximum: Any = None,
    exclusive_minimum: Any = None,
    exclusive_maximum: Any = None,
    multiple_of: Any = None,
) -> Interval:
    low, high, above, below, step = (
        None if value is None else exact(value)
        for value in (minimum, maximum, exclusive_minimum, exclusive_maximum, multiple_of)
    )
    return Interval(low, high, step=step) & Interval(above, below, open_low=True, open_high=True)


def integers(*bounds: Any, integral_fractions: bool = False, **named: Any) -> Automaton:
    interval = _interval(*bounds, **named)
    if interval.step is not None:
        interval &= Interval(step=Fraction(1))
    texts = number_text.integers(interval, integral_fractions=integral_fractions)
    whole = integral_fractions and interval.step in (None, 1)
    return texts | number_text.greatest(replace(interval, step=None)) if whole else texts


def numbers(*bounds: Any, **named: Any) -> Automaton:
    interval = _interval(*bounds, **named)
    texts = number_text.numbers(interval)
    return texts if interval.step is not None else texts | number_text.greatest(interval)
