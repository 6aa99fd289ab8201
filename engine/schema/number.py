"""Ranges and multiples of JSON numbers as automata over their text.

Knows JSON's number syntax and exact arithmetic; a bound is the decimal it is written as (a float: its shortest
spelling). Knows nothing of schemas. Every word parses to a finite double and keeps the bounds both exactly and after
rounding to a double, since validators compare doubles. Digits are bounded: see `integers` and `numbers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from engine.schema.automaton import Automaton, AutomatonTooLarge
from engine.schema.decimal_text import between, multiples

Number = int | float | Decimal | Fraction
T = TypeVar("T")

DIGITS = 64
FRACTION_DIGITS = 24
DOUBLE_DIGITS = 15
STEP_LIMIT = 2_000
STEP_STATES = 4_000
STEP_DIGITS = 18
DECADES = (-300, 307)


@lru_cache(maxsize=256)
def integers(
    minimum: Number | None = None,
    maximum: Number | None = None,
    exclusive_minimum: Number | None = None,
    exclusive_maximum: Number | None = None,
    multiple_of: Number | None = None,
    integral_fractions: bool = False,
    digits: int = DIGITS,
) -> Automaton:
    """Plain decimal integers in the range that are multiples; `integral_fractions` adds `1.0`, `-0`, `1e22`.

    At most `digits` digits, with a multiple at most STEP_DIGITS. Raises AutomatonTooLarge when the multiple needs over
    STEP_LIMIT remainders, ValueError when it is not positive.
    """
    low = _tightest(max, _map(math.ceil, minimum), _map(lambda b: math.floor(b) + 1, exclusive_minimum))
    high = _tightest(min, _map(math.floor, maximum), _map(lambda b: math.ceil(b) - 1, exclusive_maximum))
    plain = _signed(low, high, digits, 0, integral_fractions)
    if multiple_of is not None:
        plain = _signed_multiples(low, high, exact(multiple_of).numerator, 0, 0, digits, integral_fractions)
    if not integral_fractions:
        return plain
    zeros = Automaton.literal("0").repeat(1, FRACTION_DIGITS)
    whole = plain | ((plain & _short_integers()) + Automaton.literal(".") + zeros)
    return whole if multiple_of is not None else whole | _scientific(low, high, 16)


@lru_cache(maxsize=256)
def numbers(
    minimum: Number | None = None,
    maximum: Number | None = None,
    exclusive_minimum: Number | None = None,
    exclusive_maximum: Number | None = None,
    multiple_of: Number | None = None,
    digits: int = DIGITS,
    fraction_digits: int = FRACTION_DIGITS,
) -> Automaton:
    """JSON numbers in the range that are multiples: plain decimals, and exponents where a whole decade is legal.

    With a multiple there are no exponents. Without any limit every mantissa takes an exponent. Raises as `integers`.
    """
    scale = 10**fraction_digits
    low = _tightest(
        max,
        _map(lambda b: math.ceil(b * scale), minimum),
        _map(lambda b: math.floor(_past(b, math.inf) * scale) + 1, exclusive_minimum),
    )
    high = _tightest(
        min,
        _map(lambda b: math.floor(b * scale), maximum),
        _map(lambda b: math.ceil(_past(b, -math.inf) * scale) - 1, exclusive_maximum),
    )
    if multiple_of is not None:
        return _decimal_multiples(low, high, exact(multiple_of), digits, fraction_digits)
    if low is None and high is None:
        return _free_numbers(digits, fraction_digits)
    whole = _signed(_unscale(low, scale, math.ceil), _unscale(high, scale, math.floor), digits, 0, True)
    exact_as_double = all(bound is None or abs(bound) <= 2**53 * scale for bound in (low, high))
    pointed = min(digits, DOUBLE_DIGITS + exact_as_double)
    plain = whole | _signed(low, high, pointed, fraction_digits, True)
    return plain | _scientific(_map(lambda b: Fraction(b, scale), low), _map(lambda b: Fraction(b, scale), high))


def exact(value: Number) -> Fraction:
    """The number as written: a float counts as its shortest decimal spelling, an infinite one as beyond all texts."""
    if isinstance(value, float) and math.isinf(value):
        return Fraction(10**400 if value > 0 else -(10**400))
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


def _map(function: Callable[[Fraction], T], value: Number | None) -> T | None:
    return None if value is None else function(exact(value))


def _tightest(choose: Callable[[int, int], int], first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return choose(first, second)


def _unscale(bound: int | None, scale: int, rounding: Callable[[Fraction], int]) -> int | None:
    return None if bound is None else rounding(Fraction(bound, scale))


def _past(bound: Fraction, direction: float) -> Fraction:
    """The far end of what rounds to the bound's double: text beyond it is beyond the bound as a double, too."""
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
    if step <= 0:
        raise ValueError("multipleOf must be positive")
    if step // math.gcd(step, 10 ** len(str(step))) > STEP_LIMIT:
        raise AutomatonTooLarge(f"a multiple with more than {STEP_LIMIT} remainders")
    divisible = multiples(step, places, zeros)
    wanted = min(digits, max(len(str(step)) + 1, min(STEP_DIGITS, STEP_STATES // divisible.states)))
    limit = wanted if places + zeros == 0 else min(wanted, DOUBLE_DIGITS)
    signed = divisible | (_MINUS + divisible)
    return signed & _signed(low, high, limit, places + zeros, negative_zero)


def _decimal_multiples(
    low: int | None, high: int | None, step: Fraction, digits: int, fraction_digits: int
) -> Automaton:
    places = 0
    while (step * 10**places).denominator != 1:
        places += 1
        if places > fraction_digits:
            raise AutomatonTooLarge(f"a multiple with more than {fraction_digits} decimals")
    zeros = fraction_digits - places
    limit = max(1, min(digits, DOUBLE_DIGITS - places))
    return _signed_multiples(low, high, (step * 10**places).numerator, places, zeros, limit, True)


@lru_cache(maxsize=8)
def _free_numbers(digits: int, fraction_digits: int) -> Automaton:
    mantissa = _signed(None, None, digits, fraction_digits, True)
    short = _signed(None, None, 1, fraction_digits, True)
    exponent = _exponents(DECADES[0], DECADES[1] - digits)
    return mantissa | (mantissa + exponent) | (short + _exponents(*DECADES))


def _scientific(low: Fraction | int | None, high: Fraction | int | None, smallest: int = DECADES[0]) -> Automaton:
    """`d.ddde+dd` for every decade from 10**smallest that lies within the bounds as a whole."""
    result = Automaton.nothing()
    for sign, near, far in ((_EMPTY, low, high), (_MINUS, _negate(high), _negate(low))):
        first = smallest if near is None or near <= 0 else max(smallest, _decade_from(Fraction(near)))
        last = DECADES[1] if far is None else min(DECADES[1], _decade_up_to(Fraction(far)))
        if first <= last:
            result |= sign + _leading_mantissa() + _exponents(first, last)
    return result


def _negate(bound: Fraction | int | None) -> Fraction | int | None:
    return None if bound is None else -bound


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
