"""Sets of numbers as automata over their spellings. Knows intervals; `number_text` knows how numbers are written."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers import number_text
from engine.schema.numbers.intervals import Interval, Numbers
from engine.schema.regex.pattern import full_match

POINT_FREE = r"-?(0|[1-9]\d{0,40})(\.\d{1,20})?"
"""Numbers without exponent, from which multiples can be taken away exactly."""


@lru_cache(maxsize=256)
def numerals(numbers: Numbers, every_spelling: bool) -> Automaton:
    """The texts of these numbers. `every_spelling`: 1.0 for 1 as well. AutomatonTooLarge for unwieldy multiples."""
    texts = Automaton.of(text for interval in numbers for text in _points(interval, every_spelling))
    for interval in numbers:
        if interval.single is None:
            texts = texts | _interval(interval, every_spelling)
    return texts


@lru_cache(maxsize=512)
def _interval(interval: Interval, every_spelling: bool) -> Automaton:
    if interval.step is not None and interval.step.denominator == 1:
        texts = number_text.integers(interval, integral_fractions=every_spelling and not interval.plain)
    else:
        texts = number_text.numbers(interval)
    for hole in interval.holes:
        texts = (texts & full_match(POINT_FREE)) - _multiples(hole)
    return texts


@lru_cache(maxsize=64)
def _multiples(step: Fraction) -> Automaton:
    multiples = Interval(step=step)
    return (
        number_text.integers(multiples, integral_fractions=True)
        if step.denominator == 1
        else number_text.numbers(multiples)
    )


def _points(interval: Interval, every: bool) -> set[str]:
    """The texts of an interval that is one number."""
    if interval.single is None:
        return set()
    if interval.plain:
        return {str(interval.single.numerator)} if interval.single.denominator == 1 else set()
    return _spellings(interval.single, every)


def _spellings(value: Fraction, every: bool) -> set[str]:
    """As json.dumps writes the integer or the double; both where every spelling counts."""
    if value.denominator != 1:
        return {repr(float(value))}
    whole, double = str(value.numerator), repr(float(value))
    exact = Fraction(double) == value and (every or "e" in double)
    return {whole, double} if exact else {whole}
