"""The commonest sets of numbers as sequences of regular expressions of XGrammar's dialect.

An expression is one rule with few states: a quarter of the compile time of the same automaton as rules, in every
grammar that has numbers. Knows the automata of `number_text`, which the sequences equal. A test compares them, and what
XGrammar makes of them: its automaton of one expression with optional groups behind counted repeats accepts too much
(0.2.8 takes 00 for `(0|[1-9][0-9]{0,63})(\\.[0-9]{1,24})?`), so each part of a number is an expression of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial

from engine.schema.automata.automaton import Automaton
from engine.schema.numbers.intervals import Interval
from engine.schema.numbers.number_text import TOP_MANTISSAS, greatest, integers, numbers

Parts = tuple[str, ...]
"""Expressions, one after another."""

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
    words, parts = KNOWN.get(frozenset(filter(automaton.accepts, _PROBES)), (None, ()))
    return parts if words is not None and words() == automaton else None


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
    """Integers as 7, 7.0 and 7e22."""
    leading = f"{sign}[1-9]"
    return (
        *_whole(zero, sign),
        *((*short, _ZEROS) for short in _whole(zero, sign, 16)),
        *((leading, _WHOLE_DECADE), (leading, _DIGITS, _WHOLE_DECADE)),
    )


def _greatest(sign: str) -> tuple[Parts, ...]:
    few, head, digits = TOP_MANTISSAS
    return (sign + few, _TOP), (sign + head, _TOP), (sign + head, digits, _TOP)


_FROM_ZERO, _FROM_ONE = Interval(low=Fraction(0)), Interval(low=Fraction(1))
_PROBES = ("0", "1", "-1", "1.0", "0.5", "1e308", "-1e308")
"""Numbers that tell the known sets apart, so that only one is made to be compared."""
KNOWN: dict[frozenset[str], tuple[Callable[[], Automaton], tuple[Parts, ...]]] = {
    frozenset({"1e308", "-1e308"}): (partial(greatest, Interval()), _greatest("-?")),
    frozenset({"1e308"}): (partial(greatest, _FROM_ZERO), _greatest("")),
    frozenset({"0", "1", "-1", "1.0", "0.5"}): (partial(numbers, Interval()), _free()),
    frozenset({"0", "1", "1.0", "0.5"}): (partial(numbers, _FROM_ZERO), _from_zero()),
    frozenset({"0", "1", "-1"}): (partial(integers, Interval()), _whole("0|", "-?")),
    frozenset({"0", "1"}): (partial(integers, _FROM_ZERO), _whole("0|", "")),
    frozenset({"1"}): (partial(integers, _FROM_ONE), _whole("", "")),
    frozenset({"0", "1", "-1", "1.0"}): (
        partial(integers, Interval(), integral_fractions=True),
        _spelled("-?0|", "-?"),
    ),
    frozenset({"0", "1", "1.0"}): (partial(integers, _FROM_ZERO, integral_fractions=True), _spelled("-?0|", "")),
    frozenset({"1", "1.0"}): (partial(integers, _FROM_ONE, integral_fractions=True), _spelled("", "")),
}
"""By the probes among their words: sets of numbers, and their expressions."""
