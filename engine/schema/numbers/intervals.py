"""Sets of numbers closed under and, or, not: intervals with a step. Knows rationals; knows no spelling of a number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, gcd, lcm

from engine.errors import LimitExceeded

INTERVAL_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Interval:
    """Multiples of `step` (None: every number) between the bounds, that are no multiple of any of `holes`.

    `plain`: written without fraction or exponent (an integer of draft 4); `marked`: with one.
    """

    low: Fraction | None = None
    high: Fraction | None = None
    open_low: bool = False
    open_high: bool = False
    step: Fraction | None = None
    holes: frozenset[Fraction] = frozenset()
    plain: bool = False
    marked: bool = False

    @property
    def is_empty(self) -> bool:
        """Nothing is inside. Exact but for holes, which are compared with the step alone."""
        if self.plain and self.marked:
            return True
        if any(self.step is not None and (self.step / hole).denominator == 1 for hole in self.holes):
            return True
        if self.single is not None and any((self.single / hole).denominator == 1 for hole in self.holes):
            return True
        if self.low is None or self.high is None:
            return False
        if self.low > self.high or (self.low == self.high and (self.open_low or self.open_high)):
            return True
        first, last = (None, None) if self.step is None else self.ends(self.step)
        return first is not None and last is not None and first > last

    @property
    def single(self) -> Fraction | None:
        """The one number inside, when the bounds say so."""
        return self.low if self.low is not None and self.low == self.high else None

    def ends(self, step: Fraction) -> tuple[int | None, int | None]:
        """The first and the last multiple of a step between the bounds, divided by it; None where there is no bound."""
        low = self.low and self.low / step
        high = self.high and self.high / step
        return (
            low if low is None else floor(low) + 1 if self.open_low else ceil(low),
            high if high is None else ceil(high) - 1 if self.open_high else floor(high),
        )

    def __and__(self, other: Interval) -> Interval:
        low, open_low = _tighter(self.low, self.open_low, other.low, other.open_low, lower=True)
        high, open_high = _tighter(self.high, self.open_high, other.high, other.open_high, lower=False)
        return Interval(
            low, high, open_low, open_high, common(self.step, other.step), self.holes | other.holes,
            self.plain or other.plain, self.marked or other.marked,
        )  # fmt: skip


Numbers = tuple[Interval, ...]
ALL_NUMBERS: Numbers = (Interval(),)


def common(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    """The least common multiple of two steps."""
    if first is None or second is None:
        return second if first is None else first
    denominator = first.denominator * second.denominator // gcd(first.denominator, second.denominator)
    return Fraction(lcm(int(first * denominator), int(second * denominator)), denominator)


def intersect(first: Numbers, second: Numbers) -> Numbers:
    """Numbers in both."""
    if first == ALL_NUMBERS or second == ALL_NUMBERS:
        return second if first == ALL_NUMBERS else first
    if len(first) * len(second) > INTERVAL_LIMIT * 16:
        raise LimitExceeded(f"more than {INTERVAL_LIMIT} number intervals", param="schema")
    return _nonempty(a & b for a in first for b in second)


def unite(first: Numbers, second: Numbers) -> Numbers:
    """Numbers in either."""
    if ALL_NUMBERS in (first, second):
        return ALL_NUMBERS
    return _nonempty((*first, *second))


def complement(numbers: Numbers) -> Numbers:
    """Numbers in none of these intervals."""
    rest = ALL_NUMBERS
    for interval in numbers:
        rest = intersect(rest, _outside(interval))
    return rest


def rational(value: int | float) -> Fraction:
    """The number as it is written in decimal: 0.1 is a tenth."""
    return Fraction(value) if isinstance(value, int) else Fraction(repr(value))


def point(value: Fraction) -> Interval:
    """Just this number."""
    return Interval(value, value)


def _outside(interval: Interval) -> Numbers:
    parts: list[Interval] = []
    if interval.low is not None:
        parts.append(Interval(high=interval.low, open_high=not interval.open_low))
    if interval.high is not None:
        parts.append(Interval(low=interval.high, open_low=not interval.open_high))
    inside = Interval(interval.low, interval.high, interval.open_low, interval.open_high)
    if interval.plain:
        parts.append(replace(inside, step=interval.step, marked=True))
    if interval.marked:
        parts.append(replace(inside, step=common(interval.step, Fraction(1)), plain=True))
    if interval.step is not None and interval.single is None:
        parts.append(replace(inside, holes=frozenset({interval.step})))
    parts.extend(replace(inside, step=hole) for hole in interval.holes)
    return _nonempty(parts)


def _tighter(
    a: Fraction | None, open_a: bool, b: Fraction | None, open_b: bool, *, lower: bool
) -> tuple[Fraction | None, bool]:
    if a is None or b is None:
        return (b, open_b) if a is None else (a, open_a)
    if a == b:
        return a, open_a or open_b
    return (a, open_a) if (a > b) == lower else (b, open_b)


def _nonempty(intervals: Iterable[Interval]) -> Numbers:
    found = dict.fromkeys(interval for interval in intervals if not interval.is_empty)
    if len(found) > INTERVAL_LIMIT:
        raise LimitExceeded(f"more than {INTERVAL_LIMIT} number intervals", param="schema")
    return tuple(found)
