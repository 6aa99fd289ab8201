"""Patterns and lengths meet to the same strings, whether a length becomes states or stays beside the pattern."""

from __future__ import annotations

import pytest

from engine.schema.automaton import Automaton
from engine.schema.lengths import FOLDED_WIDE, strings_in_both, with_length
from engine.schema.pattern import from_pattern
from engine.schema.shape import StringSet

TEXTS = ["", "b", "bc", "abc", "b" * 30, "xbc" * 10, "é" * 30 + "bc", "b" * 41, "bc" * 32, "-" * 64]


def _accepts(strings: StringSet, text: str) -> bool:
    high = len(text) if strings.high is None else strings.high
    return strings.automaton.accepts(text) and strings.low <= len(text) <= high


@pytest.mark.parametrize("pattern", ["b", "bc$", "^[^x]*$", "^b*$", "^.*$", r"^(?:[\s\S]{2})*$", r"^(?:[\s\S]{3})*$"])
@pytest.mark.parametrize(("low", "high"), [(0, 2), (0, 40), (1, 30), (3, None), (30, 63), (0, None)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_length_and_a_pattern_meet_as_strings_of_both(pattern: str, low: int, high: int | None, turned: bool) -> None:
    automaton, length = from_pattern(pattern), Automaton.length(low, high)
    both = strings_in_both(length, automaton) if turned else strings_in_both(automaton, length)
    (beside,) = with_length(automaton, low, high)
    for text in TEXTS:
        expected = automaton.accepts(text) and length.accepts(text)
        assert _accepts(both, text) == _accepts(beside, text) == expected


def test_even_lengths_are_no_bound() -> None:
    even = from_pattern(r"^(?:[\s\S]{2})*$")
    both = strings_in_both(even, from_pattern("b"))
    assert [_accepts(both, text) for text in ("b", "bc", "abc", "abcd")] == [False, True, False, True]


def test_wide_states_are_not_written_unless_they_are_learnt_ahead() -> None:
    unlearnt = strings_in_both(from_pattern("[A-z]+"), Automaton.length(0, FOLDED_WIDE + 2))
    assert (unlearnt.high, unlearnt.automaton) == (FOLDED_WIDE + 2, from_pattern("[A-z]+"))
    few = strings_in_both(from_pattern("[A-z]+"), Automaton.length(0, FOLDED_WIDE // 2))
    assert few.high is None
    for learnt, most in ((r"^\S+$", 32), ("^.*$", 60), (r"^\d+\..*$", 60)):
        assert strings_in_both(from_pattern(learnt), Automaton.length(0, most)).high is None
