"""Unsigned decimal text compared with bounds, and divided by a step, digit by digit.

Knows canonical decimals (`0`, `12`, `3.50`; no sign, no leading zero, no exponent). Bounds and steps are integers in
units of the last allowed place, so all arithmetic is exact.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automata.alphabet import partition
from engine.schema.automata.automaton import Automaton, build
from engine.schema.automata.tables import explore

DIGITS = "0123456789"
_LETTERS = partition(tuple(((ord(c), ord(c)),) for c in DIGITS + "."))
_DIGIT_CLASS = [_LETTERS.class_of(ord(c)) for c in DIGITS]
_POINT_CLASS = _LETTERS.class_of(ord("."))

# A state of the comparison: (part, count, versus the lower bound, versus the upper bound).
# `count` is the number of digits read in this part; a comparison is -1, 0 or 1 for less, equal so far, more.
_Compared = tuple[str, int, int, int]
_BEGIN: _Compared = ("begin", 0, 0, 0)


@lru_cache(maxsize=256)
def between(low: int, high: int | None, digits: int, places: int) -> Automaton:
    """Decimals t with low <= t * 10**places <= high, at most `digits` before and `places` after the point.

    `low` >= 0; `high` None: no upper bound. O(digits + places) states.
    """
    if high is not None and high < low:
        return Automaton.nothing()
    ruler = _Ruler(low, high, digits, places)
    return build(_LETTERS, *explore(_BEGIN, ruler.step, ruler.accepts))


class _Ruler:
    """The transition function of `between`."""

    def __init__(self, low: int, high: int | None, digits: int, places: int) -> None:
        self.digits = digits
        self.places = places
        self.low_whole, self.low_rest = _split(low, places)
        self.high_whole, self.high_rest = _split(high, places) if high is not None else ("9" * (digits + 1), "")

    def step(self, state: _Compared) -> list[_Compared | None]:
        row: list[_Compared | None] = [None] * _LETTERS.size
        part = state[0]
        for digit, index in enumerate(_DIGIT_CLASS):
            row[index] = self.rest(state, digit) if part == "rest" else self.whole(state, digit)
        if part in ("whole", "zero") and self.places:
            row[_POINT_CLASS] = self.enter_rest(state)
        return row

    def whole(self, state: _Compared, digit: int) -> _Compared | None:
        part, count, low, high = state
        if part == "zero" or count == self.digits:
            return None
        low = low or _compare(digit, self.low_whole, count)
        high = high or _compare(digit, self.high_whole, count)
        count += 1
        if count > len(self.high_whole) or (count == len(self.high_whole) and high > 0):
            return None
        return ("zero" if part == "begin" and digit == 0 else "whole", count, low, high)

    def settle(self, state: _Compared) -> tuple[int, int]:
        """Both comparisons of the whole parts, once the whole part is complete."""
        _, count, low, high = state
        low = low if count == len(self.low_whole) else (1 if count > len(self.low_whole) else -1)
        high = high if count == len(self.high_whole) else -1
        return low, high

    def enter_rest(self, state: _Compared) -> _Compared | None:
        low, high = self.settle(state)
        return None if low < 0 or high > 0 else ("rest", 0, low, high)

    def rest(self, state: _Compared, digit: int) -> _Compared | None:
        _, count, low, high = state
        if count == self.places:
            return None
        low = low or _compare(digit, self.low_rest, count)
        high = high or _compare(digit, self.high_rest, count)
        return None if low < 0 or high > 0 else ("rest", count + 1, low, high)

    def accepts(self, state: _Compared) -> bool:
        part, count, low, high = state
        if part == "begin" or (part == "rest" and count == 0):
            return False
        remaining = self.low_rest[count:] if part == "rest" else self.low_rest
        if part != "rest":
            low, high = self.settle(state)
        return high <= 0 and (low > 0 or (low == 0 and not remaining.strip("0")))


def _split(value: int, places: int) -> tuple[str, str]:
    text = str(value).rjust(places + 1, "0")
    return text[: len(text) - places], text[len(text) - places :]


def _compare(digit: int, bound: str, at: int) -> int:
    other = int(bound[at]) if at < len(bound) else 0
    return (digit > other) - (digit < other)


# A state of the division: (part, places read, remainder).
_Divided = tuple[str, int, int]


@lru_cache(maxsize=256)
def multiples(step: int, places: int, zeros: int) -> Automaton:
    """Decimals t with t * 10**places divisible by `step`; after `places` digits up to `zeros` more zeros.

    About step * (places + 1) work states. Without limit of digits before the point.
    """
    if step % 10 == 0 and places == 0 and zeros == 0:
        nonzero = multiples(step // 10, 0, 0) - Automaton.literal("0")
        return (nonzero + Automaton.literal("0")) | Automaton.literal("0")

    def follow(state: _Divided) -> list[_Divided | None]:
        row: list[_Divided | None] = [None] * _LETTERS.size
        part, count, remainder = state
        for digit, index in enumerate(_DIGIT_CLASS):
            onward = (remainder * 10 + digit) % step
            if part == "begin":
                row[index] = ("zero" if digit == 0 else "whole", 0, onward)
            elif part == "whole":
                row[index] = ("whole", 0, onward)
            elif part == "rest" and count < places:
                row[index] = ("rest", count + 1, onward)
            elif part == "rest" and digit == 0 and remainder == 0 and count < places + zeros:
                row[index] = ("rest", count + 1, 0)
        if part in ("whole", "zero") and places + zeros:
            row[_POINT_CLASS] = ("rest", 0, remainder)
        return row

    def accepts(state: _Divided) -> bool:
        part, count, remainder = state
        if part == "begin" or (part == "rest" and count == 0):
            return False
        return remainder * int(10 ** max(places - count, 0)) % step == 0

    return build(_LETTERS, *explore(("begin", 0, 0), follow, accepts))
