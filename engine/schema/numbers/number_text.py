"""Ranges and multiples of JSON numbers as automata over their text.

A fraction or an exponent is read as a double, and validators compare the shortest decimals of doubles. So bounds are
those of the doubles within: every word keeps them as text and as a double, and every double within has the word that
`json.dumps` writes. Digits are bounded: see `integers` and `numbers`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.numbers.decimal_text import between, multiples
from engine.schema.numbers.intervals import Interval, rational
from engine.schema.regex.pattern import full_match

DIGITS = 64
FRACTION_DIGITS = 24
DOUBLE_DIGITS = 15
"""Digits that a double keeps."""
WHOLE_DIGITS = 16
"""Digits before the point that `json.dumps` writes of a double."""
MANTISSA_DIGITS = 17
STEP_LIMIT = 2_000
STEP_STATES = 4_000
STEP_DIGITS = 18
PLAIN_DECADES = (-4, 15)
"""Doubles that `json.dumps` writes without exponent."""
LEAST, MOST = rational(math.ulp(0.0)), rational(sys.float_info.max)
"""The positive doubles."""
DECADES = (-324, 308)


@lru_cache(maxsize=64)
def integers(within: Interval, *, integral_fractions: bool = False) -> Automaton:
    """Plain decimal integers of an interval, but for its holes and `greatest`; `integral_fractions` adds `1.0`, `-0`,
    `1e22`.

    At most DIGITS digits, or as many as a bound has; with a step at most STEP_DIGITS, without exponents.
    AutomatonTooLarge where it needs over STEP_LIMIT remainders.
    """
    low, high = within.ends(Fraction(1))
    if within.step not in (None, 1):
        found = _signed_multiples(low, high, within.step.numerator, 0, 0, DIGITS, integral_fractions)
        return Automaton.either([(found,), (found & _whole_doubles(), _zeros())]) if integral_fractions else found
    plain = _signed(low, high, _digits(low, high), 0, integral_fractions)
    if not integral_fractions:
        return Automaton.either(plain)
    doubles = _doubles(within)
    short = _signed(*_units(*doubles, 1), WHOLE_DIGITS, 0, True)
    return Automaton.either([*plain, *((*way, _zeros()) for way in short), *_scientific(*doubles, WHOLE_DIGITS)])


@lru_cache(maxsize=64)
def numbers(within: Interval) -> Automaton:
    """JSON numbers of an interval, but for its holes and `greatest`: plain, and with exponents, where a bound has none
    only in whole decades.

    With a step there are no exponents. Without any limit every mantissa takes an exponent. Raises as `integers`.
    """
    scale = 10**FRACTION_DIGITS
    low, high = _doubles(within)
    if within.step is not None:
        return _decimal_multiples(*_units(low, high, scale), within.step)
    if low is None and high is None:
        return _free_numbers()
    whole = within.ends(Fraction(1))
    plain = _signed(*whole, _digits(*whole), 0, True)
    short = _signed(*_units(low, high, scale), WHOLE_DIGITS, FRACTION_DIGITS, True)
    return Automaton.either([*plain, *short, *_scientific(low, high)])


def _units(low: Fraction | None, high: Fraction | None, scale: int) -> tuple[int | None, int | None]:
    return None if low is None else math.ceil(low * scale), None if high is None else math.floor(high * scale)


def _digits(*bounds: int | None) -> int:
    return max(DIGITS, *(len(str(abs(bound))) for bound in bounds if bound is not None), 0)


def _doubles(within: Interval) -> tuple[Fraction | None, Fraction | None]:
    """The least and the greatest double of an interval, in their shortest decimals; beyond all where there is none."""
    low = None if within.low is None else _first_double(within.low, within.open_low)
    high = None if within.high is None else -_first_double(-within.high, within.open_high)
    return low, high


def _first_double(bound: Fraction, is_open: bool) -> Fraction:
    """The least double from a bound on, or behind it; beyond all doubles where there is none."""
    if bound > MOST:
        return 2 * MOST
    double = max(math.nextafter(float(max(bound, -MOST)), -math.inf), -sys.float_info.max)
    while rational(double) < bound or (is_open and rational(double) == bound):
        if double == sys.float_info.max:
            return 2 * MOST
        double = math.nextafter(double, math.inf)
    return rational(double)


Ways = list[tuple[Automaton, ...]]
"""See `Automaton.either`."""


def _signed(low: int | None, high: int | None, digits: int, places: int, negative_zero: bool) -> Ways:
    """Decimals t with low <= t * 10**places <= high."""
    if low is not None and high is not None and high < low:
        return []
    ways: Ways = [(between(max(low or 0, 0), high, digits, places),)] if high is None or high >= 0 else []
    if low is None or low <= -1 or (negative_zero and low <= 0):
        least = 0 if negative_zero else 1
        least = least if high is None else max(-high, least)
        ways.append((_MINUS, between(least, None if low is None else -low, digits, places)))
    return ways


def _signed_multiples(
    low: int | None, high: int | None, step: int, places: int, zeros: int, digits: int, negative_zero: bool
) -> Automaton:
    """Decimals t with low <= t * 10**(places + zeros) <= high whose t * 10**places is divisible by step."""
    divisible = _divisible(step, places, zeros)
    wanted = min(digits, max(len(str(step)) + 1, min(STEP_DIGITS, STEP_STATES // divisible.states)))
    limit = wanted if places + zeros == 0 else min(wanted, DOUBLE_DIGITS)
    signed = Automaton.either([(divisible,), (_MINUS, divisible)])
    return signed & Automaton.either(_signed(low, high, limit, places + zeros, negative_zero))


def _divisible(step: int, places: int, zeros: int) -> Automaton:
    if step // math.gcd(step, 10 ** len(str(step))) > STEP_LIMIT:
        raise AutomatonTooLarge(f"a multiple with more than {STEP_LIMIT} remainders")
    return multiples(step, places, zeros)


def _places(step: Fraction) -> int:
    """Decimals of a step."""
    for places in range(FRACTION_DIGITS + 1):
        if (step * 10**places).denominator == 1:
            return places
    raise AutomatonTooLarge(f"a multiple with more than {FRACTION_DIGITS} decimals")


def _decimal_multiples(low: int | None, high: int | None, step: Fraction) -> Automaton:
    places = _places(step)
    zeros = FRACTION_DIGITS - places
    limit = max(1, DOUBLE_DIGITS - places)
    return _signed_multiples(low, high, (step * 10**places).numerator, places, zeros, limit, True)


@lru_cache(maxsize=64)
def no_multiples(step: Fraction) -> Automaton:
    """Numbers that are no multiple of a step, as texts and as doubles: integers, decimals of no more digits than a
    double keeps or surely beside all integers, and what is nearer to 0 than the step."""
    places = _places(step)
    divisible = _divisible((step * 10**places).numerator, places, FRACTION_DIGITS - places)
    texts = full_match(rf"-?(0|[1-9]\d{{0,{DIGITS - 1}}})") | _kept_decimals()
    if step == 1:
        texts |= _beside_integers()
    below = -_first_double(-step, True)
    texts -= Automaton.either([(divisible,), (_MINUS, divisible)])
    return Automaton.either([(texts,), *_scientific(-below, below)])


@lru_cache(maxsize=1)
def _kept_decimals() -> Automaton:
    """Decimals whose double has the same shortest decimal."""
    zeros = FRACTION_DIGITS - DOUBLE_DIGITS
    digits = full_match(rf"-?(0\.0{{0,{zeros}}}\d{{1,{DOUBLE_DIGITS}}}|[\d.]{{1,{DOUBLE_DIGITS + 1}}})")
    return digits & full_match(r"-?(0|[1-9]\d*)\.\d+")


@lru_cache(maxsize=1)
def _beside_integers() -> Automaton:
    """Decimals up to a million that are more than the error of a double away from each integer."""
    near = full_match(r"0*|0{9}\d*|9{9}\d*")
    return full_match(r"-?(0|[1-9]\d{0,5})\.") + (full_match(rf"\d{{1,{FRACTION_DIGITS}}}") - near)


@lru_cache(maxsize=1)
def _free_numbers() -> Automaton:
    long = _signed(None, None, DIGITS, FRACTION_DIGITS, True)
    short = _signed(None, None, 1, FRACTION_DIGITS, True)
    few, many = (_exponents(DECADES[0], last) for last in (DECADES[1] - 1 - DIGITS, DECADES[1] - 1))
    return Automaton.either([*long, *((*way, few) for way in long), *((*way, many) for way in short)])


@lru_cache(maxsize=256)
def greatest(within: Interval) -> Automaton:
    """Numbers of the last decade of doubles, where no bound is there: apart, so that all others need no states for
    them."""
    found, least = Ways(), Fraction(10) ** DECADES[1]
    low, high = _doubles(within)
    for sign, near, far in (((), low, high), ((_MINUS,), high and -high, low and -low)):
        if (far is None or far >= MOST) and (near is None or near <= least):
            found.append((*sign, _top_mantissa(), _exponents(DECADES[1], DECADES[1])))
    return Automaton.either(found)


def _scientific(low: Fraction | None, high: Fraction | None, smallest: int = DECADES[0]) -> Ways:
    """`d.ddde+dd` within bounds that are doubles, for decades from 10**smallest on."""
    ways = Ways()
    for sign, near, far in (((), low, high), ((_MINUS,), high and -high, low and -low)):
        first = max(LEAST, Fraction(10) ** smallest) if near is None else max(near, LEAST, Fraction(10) ** smallest)
        last = MOST if far is None else min(far, MOST)
        for mantissa, exponents in _decades(first, last) if first <= last else ():
            ways.append((*sign, mantissa, exponents))
    return ways


def _decades(first: Fraction, last: Fraction) -> Iterator[tuple[Automaton, Automaton]]:
    """Mantissas and exponents of the texts from `first` to `last`, both positive doubles. Not those of a decade that is
    cut and written without exponents, or `greatest`."""
    low, high = _decade(first), _decade(last)
    ends = {low: first != Fraction(10) ** low, high: True}
    whole = low + ends[low], high - 1
    if whole[0] <= whole[1]:
        yield _leading_mantissa(), _exponents(*whole)
    for decade in [decade for decade, cut in ends.items() if cut]:
        if PLAIN_DECADES[0] <= decade <= PLAIN_DECADES[1] or (last == MOST and decade == high != low):
            continue
        if first == LEAST and decade == low:
            yield Automaton.literal("5"), _exponents(low, low)
            continue
        unit = Fraction(10) ** (decade - MANTISSA_DIGITS)
        least, most = 10**MANTISSA_DIGITS, 10 ** (MANTISSA_DIGITS + 1) - 1
        least = math.ceil(first / unit) if decade == low else least
        most = math.floor(last / unit) if decade == high else most
        yield between(least, most, 1, MANTISSA_DIGITS), _exponents(decade, decade)


def _decade(value: Fraction) -> int:
    """The greatest e with 10**e <= value."""
    e = math.floor(math.log10(value.numerator) - math.log10(value.denominator)) + 1
    while Fraction(10) ** e > value:
        e -= 1
    return e


TOP_MANTISSAS = (r"1(\.7(976931348623157)?)?", r"1\.([0-6]|7[0-8])", "[0-9]{1,18}")
"""Of the last decade of doubles, the third behind the second or not at all. From 1.79 on only the greatest is written:
all others would cost every grammar that has numbers two dozen rules."""


@lru_cache(maxsize=1)
def _top_mantissa() -> Automaton:
    few, head, digits = map(full_match, TOP_MANTISSAS)
    return few | head | (head + digits)


@lru_cache(maxsize=1)
def _leading_mantissa() -> Automaton:
    fraction = Automaton.literal(".") + Automaton.characters([(0x30, 0x39)]).repeat(1, MANTISSA_DIGITS)
    return Automaton.characters([(0x31, 0x39)]) + (fraction | _EMPTY)


@lru_cache(maxsize=64)
def _exponents(first: int, last: int) -> Automaton:
    """`e` or `E`, a sign where needed, and an exponent from first to last; one leading zero is legal."""
    letter, zero = Automaton.of(["e", "E"]), Automaton.of(["", "0"])
    ways = Ways()
    if last >= 0:
        ways.append((letter, Automaton.of(["", "+"]), zero, between(max(first, 0), last, 3, 0)))
    if first < 0:
        ways.append((letter, _MINUS, zero, between(max(-last, 1), -first, 3, 0)))
    return Automaton.either(ways)


@lru_cache(maxsize=1)
def _whole_doubles() -> Automaton:
    """Integers that doubles are, as `json.dumps` writes them with a point."""
    even = full_match("\\d*[02468]") & between(0, 10**WHOLE_DIGITS - 1, WHOLE_DIGITS, 0)
    return (_EMPTY | _MINUS) + (even | between(0, 2**53, WHOLE_DIGITS, 0))


@lru_cache(maxsize=1)
def _zeros() -> Automaton:
    return Automaton.literal(".") + Automaton.literal("0").repeat(1, FRACTION_DIGITS)


_EMPTY = Automaton.literal("")
_MINUS = Automaton.literal("-")
