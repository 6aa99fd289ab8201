"""The commonest sets of numbers as sequences of regular expressions of XGrammar's dialect.

An expression is one rule with few states: a quarter of the compile time of the same automaton as rules, in every
grammar that has numbers. Knows the automata of `number`, which the sequences equal. A test compares them, and what
XGrammar makes of them: its automaton of one expression with optional groups behind counted repeats accepts too much
(0.2.8 takes 00 for `(0|[1-9][0-9]{0,63})(\\.[0-9]{1,24})?`), so each part of a number is an expression of its own.
"""

from __future__ import annotations

from functools import lru_cache

from engine.schema.automaton import Automaton
from engine.schema.number import integers, numbers

Parts = tuple[str, ...]
"""Expressions, one after another."""

_POSITIVE = "[1-9][0-9]{0,63}"
_SHORT = "[1-9][0-9]{0,14}"
_TO_243 = "([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-3][0-9]|24[0-3])"
_TO_300 = "([1-9]|[1-9][0-9]|[12][0-9][0-9]|300)"
_TO_307 = "([0-9]|[1-9][0-9]|[12][0-9][0-9]|30[0-7])"
_FROM_244 = r"[eE]\+?0?(24[4-9]|2[5-9][0-9]|30[0-7])"
_WHOLE_DECADE = r"[eE]\+?0?(1[6-9]|[2-9][0-9]|[12][0-9][0-9]|30[0-7])"
_ZEROS, _FRACTION, _DIGITS = r"\.0{1,24}", r"\.[0-9]{1,24}", r"\.[0-9]{1,17}"


def alternatives_of(automaton: Automaton) -> tuple[Parts, ...] | None:
    """Sequences of expressions for exactly these words, where they are known. 30 ms once a process."""
    return _known().get(automaton)


@lru_cache(maxsize=1)
def _known() -> dict[Automaton, tuple[Parts, ...]]:
    return {
        numbers(): _free(),
        numbers(minimum=0): _from_zero(),
        integers(): ((f"0|-?{_POSITIVE}",),),
        integers(minimum=0): ((f"0|{_POSITIVE}",),),
        integers(minimum=1): ((_POSITIVE,),),
        integers(integral_fractions=True): _spelled(f"-?0|-?{_POSITIVE}", f"-?0|-?{_SHORT}", "-?[1-9]"),
        integers(minimum=0, integral_fractions=True): _spelled(f"-?0|{_POSITIVE}", f"-?0|{_SHORT}", "[1-9]"),
        integers(minimum=1, integral_fractions=True): _spelled(_POSITIVE, _SHORT, "[1-9]"),
    }


def _free() -> tuple[Parts, ...]:
    whole, digit = f"-?0|-?{_POSITIVE}", "-?[0-9]"
    exponent = rf"[eE](\+?0?{_TO_243}|-0?{_TO_300})"
    return (
        *((whole,), (whole, _FRACTION), (whole, exponent), (whole, _FRACTION, exponent)),
        *((digit, _FROM_244), (digit, _FRACTION, _FROM_244)),
    )


def _from_zero() -> tuple[Parts, ...]:
    exponent = rf"[eE](\+?0?{_TO_307}|-0?{_TO_300})"
    return (
        *((f"-?0|{_POSITIVE}",), ("-0", _ZEROS), ("0|[1-9][0-9]{0,15}", _FRACTION)),
        *(("[1-9]", exponent), ("[1-9]", _DIGITS, exponent)),
    )


def _spelled(whole: str, short: str, leading: str) -> tuple[Parts, ...]:
    """Integers as 7, 7.0 and 7e22."""
    return (whole,), (short, _ZEROS), (leading, _WHOLE_DECADE), (leading, _DIGITS, _WHOLE_DECADE)
