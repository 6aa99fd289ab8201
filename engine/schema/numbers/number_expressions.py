"""The commonest sets of numbers as sequences of regular expressions of XGrammar's dialect.

An expression is one rule with few states: a quarter of the compile time of the same automaton as rules, in every
grammar that has numbers. Knows the automata of `number_text`, which the sequences equal. A test compares them, and what
XGrammar makes of them: its automaton of one expression with optional groups behind counted repeats accepts too much
(0.2.8 takes 00 for `(0|[1-9][0-9]{0,63})(\\.[0-9]{1,24})?`), so each part of a number is an expression of its own.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Literal

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers.intervals import Interval, Numbers
from engine.schema.numbers.number_text import TOP_MANTISSAS, greatest, integers, numbers

Parts = tuple[str, ...]
"""Expressions, one after another."""
Kind = Literal["greatest", "numbers", "integers", "spelled"]
"""`spelled`: integers as 7, 7.0 and 7e22."""

BLOCK = 9
WHOLE_BLOCK = f"[0-9]{{{BLOCK}}}"
_COUNTED = re.compile(r"\[0-9\]\{1,(\d+)\}")

_TO_243 = "([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-3][0-9]|24[0-3])"
_TO_323 = "([1-9]|[1-9][0-9]|[12][0-9][0-9]|3[01][0-9]|32[0-3])"
_TO_324 = _TO_323[:-2] + "4])"
_TO_307 = "([0-9]|[1-9][0-9]|[12][0-9][0-9]|30[0-7])"
_FROM_244 = r"[eE]\+?0?(24[4-9]|2[5-9][0-9]|30[0-7])"
_LEAST = r"[eE]-0?324"
_WHOLE_DECADE = r"[eE]\+?0?(1[6-9]|[2-9][0-9]|[12][0-9][0-9]|30[0-7])"
_TOP = r"[eE]\+?0?308"
_ZEROS, _FRACTION, _DIGITS = r"\.0{1,24}", r"\.[0-9]{1,24}", r"\.[0-9]{1,17}"


def alternatives_of(automaton: Automaton) -> tuple[Parts, ...] | None:
    """Sequences of expressions for exactly these words, where they are known. 2 ms once for each set."""
    key = _PROBED.get(frozenset(filter(automaton.accepts, _PROBES)))
    return KNOWN[key] if key is not None and words_of(*key) == automaton else None


def alternatives_of_set(within: Numbers, *, every_spelling: bool, of_greatest: bool) -> tuple[Parts, ...] | None:
    """The same without making the automaton, for the sets that come most: what `numerals` makes of them, or what
    `numerals.greatest` does."""
    interval = within[0] if len(within) == 1 else Interval(plain=True)
    whole = interval.step == 1
    if replace(interval, low=None, step=None) != Interval() or not (whole or interval.step is None):
        return None
    if of_greatest:
        return KNOWN.get(("greatest", interval.low)) if every_spelling or not whole else None
    return KNOWN.get(("spelled" if whole and every_spelling else "integers" if whole else "numbers", interval.low))


def words_of(kind: Kind, low: Fraction | None) -> Automaton:
    """The words of a known set."""
    within = Interval(low=low)
    if kind == "greatest":
        return greatest(within)
    return numbers(within) if kind == "numbers" else integers(within, integral_fractions=kind == "spelled")


def blocks(part: str) -> tuple[Parts, ...]:
    """The same as whole blocks of digits and a last one; a part that is no run of digits as it is.

    XGrammar copies a mask for each place of a counted run into every grammar: 63 places as they are, 34 so.
    """
    counted = _COUNTED.fullmatch(part)
    if counted is None:
        return ((part,),)
    whole, rest = divmod(int(counted[1]), BLOCK)
    sizes = [BLOCK] * whole + [rest] * (rest > 0)
    return tuple((*[WHOLE_BLOCK] * before, f"[0-9]{{1,{size}}}") for before, size in enumerate(sizes))


def _whole(zero: str, sign: str, digits: int = 64) -> tuple[Parts, ...]:
    """Integers of one digit, and of more. XGrammar's work is quadratic in an optional count with anything before it."""
    return (f"{zero}{sign}[1-9]",), (f"{sign}[1-9]", f"[0-9]{{1,{digits - 1}}}")


def _free() -> tuple[Parts, ...]:
    digit, exponent = "-?[0-9]", rf"[eE](\+?0?{_TO_243}|-0?{_TO_324})"
    ends: tuple[Parts, ...] = ((), (_FRACTION,), (exponent,), (_FRACTION, exponent))
    return (
        *((*whole, *end) for whole in _whole("-?0|", "-?") for end in ends),
        *((digit, _FROM_244), (digit, _FRACTION, _FROM_244)),
    )


def _from_zero() -> tuple[Parts, ...]:
    exponent = rf"[eE](\+?0?{_TO_307}|-0?{_TO_323})"
    return (
        *(*_whole("-?0|", ""), ("-0", _ZEROS), *((*short, _FRACTION) for short in _whole("0|", "", 16))),
        *(("[1-9]", exponent), ("[1-9]", _DIGITS, exponent)),
        ("5", _LEAST),
    )


def _spelled(zero: str, sign: str) -> tuple[Parts, ...]:
    leading = f"{sign}[1-9]"
    return (
        *_whole(zero, sign),
        *((*short, _ZEROS) for short in _whole(zero, sign, 16)),
        *((leading, _WHOLE_DECADE), (leading, _DIGITS, _WHOLE_DECADE)),
    )


def _greatest(sign: str) -> tuple[Parts, ...]:
    few, head, digits = TOP_MANTISSAS
    return (sign + few, _TOP), (sign + head, _TOP), (sign + head, digits, _TOP)


_ZERO, _ONE = Fraction(0), Fraction(1)
KNOWN: dict[tuple[Kind, Fraction | None], tuple[Parts, ...]] = {
    ("greatest", None): _greatest("-?"),
    ("greatest", _ZERO): _greatest(""),
    ("numbers", None): _free(),
    ("numbers", _ZERO): _from_zero(),
    ("integers", None): _whole("0|", "-?"),
    ("integers", _ZERO): _whole("0|", ""),
    ("integers", _ONE): _whole("", ""),
    ("spelled", None): _spelled("-?0|", "-?"),
    ("spelled", _ZERO): _spelled("-?0|", ""),
    ("spelled", _ONE): _spelled("", ""),
}
"""By kind and lower bound (None: none)."""
_PROBES = ("0", "1", "-1", "1.0", "0.5", "1e308", "-1e308")
"""Numbers that tell the known sets apart, so that only one is made to be compared."""
_PROBED: dict[frozenset[str], tuple[Kind, Fraction | None]] = {
    frozenset({"1e308", "-1e308"}): ("greatest", None),
    frozenset({"1e308"}): ("greatest", _ZERO),
    frozenset({"0", "1", "-1", "1.0", "0.5"}): ("numbers", None),
    frozenset({"0", "1", "1.0", "0.5"}): ("numbers", _ZERO),
    frozenset({"0", "1", "-1"}): ("integers", None),
    frozenset({"0", "1"}): ("integers", _ZERO),
    frozenset({"1"}): ("integers", _ONE),
    frozenset({"0", "1", "-1", "1.0"}): ("spelled", None),
    frozenset({"0", "1", "1.0"}): ("spelled", _ZERO),
    frozenset({"1", "1.0"}): ("spelled", _ONE),
}
