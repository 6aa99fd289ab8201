"""Sets of numbers as automata over their spellings. Knows intervals; `number_text` knows how numbers are written."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers import number_text
from engine.schema.numbers.intervals import Interval, Numbers
from engine.schema.regex.pattern import full_match

_PLAIN = full_match("-?[0-9]+")


@lru_cache(maxsize=256)
def numerals(numbers: Numbers, every_spelling: bool) -> Automaton:
    """The texts of these numbers, but for `greatest`. `every_spelling`: 1.0 for 1 as well. AutomatonTooLarge for
    unwieldy multiples."""
    texts = Automaton.of(text for interval in numbers for text in _points(interval, every_spelling))
    for interval in numbers:
        if interval.single is None:
            texts = texts | _interval(interval, every_spelling)
    return texts


@lru_cache(maxsize=256)
def greatest(numbers: Numbers, every_spelling: bool) -> Automaton:
    """The same of numbers that are written apart: see `number_text.greatest`."""
    found = Automaton.nothing()
    for interval in numbers:
        whole = interval.step == 1 and every_spelling and not interval.plain
        if interval.single is None and not interval.holes and (interval.step is None or whole):
            texts = number_text.greatest(replace(interval, step=None))
            found = found | (texts - _PLAIN if interval.marked else texts)
    return found


@lru_cache(maxsize=512)
def _interval(interval: Interval, every_spelling: bool) -> Automaton:
    if interval.step is not None and interval.step.denominator == 1:
        every = (every_spelling or interval.marked) and not interval.plain
        texts = number_text.integers(interval, integral_fractions=every)
    else:
        texts = number_text.numbers(interval)
    for hole in interval.holes:
        texts = texts & number_text.no_multiples(hole)
    return texts - _PLAIN if interval.marked else texts


def _points(interval: Interval, every: bool) -> set[str]:
    """The texts of an interval that is one number."""
    if interval.single is None:
        return set()
    if interval.plain:
        return {str(interval.single.numerator)} if interval.single.denominator == 1 else set()
    found = _spellings(interval.single, every or interval.marked)
    return {text for text in found if not _PLAIN.accepts(text)} if interval.marked else found


def _spellings(value: Fraction, every: bool) -> set[str]:
    """As json.dumps writes the integer or the double; both where every spelling counts."""
    if value.denominator != 1:
        return {repr(float(value))}
    whole, double = str(value.numerator), repr(float(value))
    exact = Fraction(double) == value and (every or "e" in double)
    return {whole, double} if exact else {whole}
