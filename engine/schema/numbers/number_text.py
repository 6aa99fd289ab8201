"""Ranges and multiples of JSON numbers as automata over their text.

Every word parses to a finite double and keeps the bounds both exactly and after rounding to a double, since validators
compare doubles. Digits are bounded: see `integers` and `numbers`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.numbers.decimal_text import between, multiples
from engine.schema.numbers.intervals import Interval

DIGITS = 64
FRACTION_DIGITS = 24
DOUBLE_DIGITS = 15
STEP_LIMIT = 2_000
STEP_STATES = 4_000
STEP_DIGITS = 18
DECADES = (-300, 307)


def integers(within: Interval, *, integral_fractions: bool = False) -> Automaton:
    """Plain decimal integers of an interval, but for its holes; `integral_fractions` adds `1.0`, `-0`, `1e22`.

    At most DIGITS digits, with a step at most STEP_DIGITS. AutomatonTooLarge where it needs over STEP_LIMIT remainders.
    """
    low, high = within.ends(Fraction(1))
    plain = _signed(low, high, DIGITS, 0, integral_fractions)
    stepped = within.step not in (None, 1)
    if within.step is not None and stepped:
        plain = _signed_multiples(low, high, within.step.numerator, 0, 0, DIGITS, integral_fractions)
    if not integral_fractions:
        return plain
    zeros = Automaton.literal("0").repeat(1, FRACTION_DIGITS)
    whole = plain | ((plain & _short_integers()) + Automaton.literal(".") + zeros)
    return whole if stepped else whole | _scientific(low, high, 16)


def numbers(within: Interval) -> Automaton:
    """JSON numbers of an interval, but for its holes: plain, and with exponents where a whole decade is legal.

    With a step there are no exponents. Without any limit every mantissa takes an exponent. Raises as `integers`.
    """
    scale = 10**FRACTION_DIGITS
    low, high = _as_doubles(within).ends(Fraction(1, scale))
    if within.step is not None:
        return _decimal_multiples(low, high, within.step)
    if low is None and high is None:
        return _free_numbers()
    whole = _signed(low and -(-low // scale), high and high // scale, DIGITS, 0, True)
    exact_as_double = all(bound is None or abs(bound) <= 2**53 * scale for bound in (low, high))
    plain = whole | _signed(low, high, DOUBLE_DIGITS + exact_as_double, FRACTION_DIGITS, True)
    return plain | _scientific(low and Fraction(low, scale), high and Fraction(high, scale))


def _as_doubles(within: Interval) -> Interval:
    """Without what rounds to the double of a bound that is not inside: beyond the bound as text, on it as a double."""
    low = _past(within.low, math.inf) if within.low is not None and within.open_low else within.low
    high = _past(within.high, -math.inf) if within.high is not None and within.open_high else within.high
    return replace(within, low=low, high=high)


def _past(bound: Fraction, direction: float) -> Fraction:
    """The far end of what rounds to the bound's double."""
    try:
        here = float(bound)
    except OverflowError:
        return bound
    beyond = math.nextafter(here, direction)
    if math.isinf(here) or math.isinf(beyond):
        return bound
    middle = (Fraction(here) + Fraction(beyond)) / 2
    return max(bound, middle) if direction > 0 else min(bound, middle)


def _signed(low: int | None, high: int | None, digits: int, places: int, negative_zero: bool) -> Automaton:
    """Decimals t with low <= t * 10**places <= high."""
    if low is not None and high is not None and high < low:
        return Automaton.nothing()
    result = Automaton.nothing()
    if high is None or high >= 0:
        result = between(max(low or 0, 0), high, digits, places)
    if low is None or low <= -1 or (negative_zero and low <= 0):
        least = 0 if negative_zero else 1
        least = least if high is None else max(-high, least)
        result |= _MINUS + between(least, None if low is None else -low, digits, places)
    return result


def _signed_multiples(
    low: int | None, high: int | None, step: int, places: int, zeros: int, digits: int, negative_zero: bool
) -> Automaton:
    """Decimals t with low <= t * 10**(places + zeros) <= high whose t * 10**places is divisible by step."""
    if step // math.gcd(step, 10 ** len(str(step))) > STEP_LIMIT:
        raise AutomatonTooLarge(f"a multiple with more than {STEP_LIMIT} remainders")
    divisible = multiples(step, places, zeros)
    wanted = min(digits, max(len(str(step)) + 1, min(STEP_DIGITS, STEP_STATES // divisible.states)))
    limit = wanted if places + zeros == 0 else min(wanted, DOUBLE_DIGITS)
    signed = divisible | (_MINUS + divisible)
    return signed & _signed(low, high, limit, places + zeros, negative_zero)


def _decimal_multiples(low: int | None, high: int | None, step: Fraction) -> Automaton:
    places = 0
    while (step * 10**places).denominator != 1:
        places += 1
        if places > FRACTION_DIGITS:
            raise AutomatonTooLarge(f"a multiple with more than {FRACTION_DIGITS} decimals")
    zeros = FRACTION_DIGITS - places
    limit = max(1, DOUBLE_DIGITS - places)
    return _signed_multiples(low, high, (step * 10**places).numerator, places, zeros, limit, True)


@lru_cache(maxsize=1)
def _free_numbers() -> Automaton:
    mantissa = _signed(None, None, DIGITS, FRACTION_DIGITS, True)
    short = _signed(None, None, 1, FRACTION_DIGITS, True)
    exponent = _exponents(DECADES[0], DECADES[1] - DIGITS)
    return mantissa | (mantissa + exponent) | (short + _exponents(*DECADES))


def _scientific(low: Fraction | int | None, high: Fraction | int | None, smallest: int = DECADES[0]) -> Automaton:
    """`d.ddde+dd` for every decade from 10**smallest that lies within the bounds as a whole."""
    result = Automaton.nothing()
    for sign, near, far in ((_EMPTY, low, high), (_MINUS, high and -high, low and -low)):
        first = smallest if near is None or near <= 0 else max(smallest, _decade_from(Fraction(near)))
        last = DECADES[1] if far is None else min(DECADES[1], _decade_up_to(Fraction(far)))
        if first <= last:
            result |= sign + _leading_mantissa() + _exponents(first, last)
    return result


def _decade_from(bound: Fraction) -> int:
    """The least e with bound <= 10**e."""
    e = math.floor(_log10(bound)) - 1
    while Fraction(10) ** e < bound:
        e += 1
    return e


def _decade_up_to(bound: Fraction) -> int:
    """The greatest e with 10**(e + 1) <= bound; far below all decades when there is none."""
    if bound <= 0:
        return DECADES[0] - 1
    e = math.floor(_log10(bound)) + 2
    while Fraction(10) ** (e + 1) > bound:
        e -= 1
    return e


def _log10(bound: Fraction) -> float:
    return math.log10(bound.numerator) - math.log10(bound.denominator)


@lru_cache(maxsize=1)
def _leading_mantissa() -> Automaton:
    fraction = Automaton.literal(".") + Automaton.characters([(0x30, 0x39)]).repeat(1, 17)
    return Automaton.characters([(0x31, 0x39)]) + (fraction | _EMPTY)


@lru_cache(maxsize=64)
def _exponents(first: int, last: int) -> Automaton:
    """`e` or `E`, a sign where needed, and an exponent from first to last; one leading zero is legal."""
    zero = Automaton.of(["", "0"])
    result = Automaton.nothing()
    if last >= 0:
        result = Automaton.of(["", "+"]) + zero + between(max(first, 0), last, 3, 0)
    if first < 0:
        result |= _MINUS + zero + between(max(-last, 1), -first, 3, 0)
    return Automaton.of(["e", "E"]) + result


@lru_cache(maxsize=1)
def _short_integers() -> Automaton:
    return Automaton.of(["", "-"]) + Automaton.characters([(0x30, 0x39)]).repeat(1, DOUBLE_DIGITS)


_EMPTY = Automaton.literal("")
_MINUS = Automaton.literal("-")
