"""Patterns and lengths meet to the same strings, whether a length becomes states or stays beside the pattern."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.schema.automata.automaton import Automaton
from engine.schema.regex.pattern import from_pattern
from engine.schema.sets.complement import _outside_string
from engine.schema.sets.lengths import bounded, in_states, is_countable, measures
from engine.schema.sets.pattern_counts import counted_pattern
from engine.schema.sets.shape import StringSet

TEXTS = ["", "b", "bc", "abc", "b" * 30, "xbc" * 10, "é" * 30 + "bc", "b" * 41, "bc" * 32, "-" * 64]
PATTERNS = ["b", "bc$", "^[^x]*$", "^b*$", "^.*$", r"^(?:[\s\S]{2})*$", r"^(?:[\s\S]{3})*$", "^(b|bc)?$", "c$|^b*$"]
BOUNDS = [(0, 2), (0, 40), (1, 30), (3, None), (30, 63), (0, None), (60, 60), (2, 2)]


def _accepts(strings: StringSet | None, text: str) -> bool:
    if strings is None:
        return False
    high = len(text) if strings.high is None else strings.high
    return strings.automaton.accepts(text) and strings.low <= len(text) <= high


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_a_length_and_a_pattern_meet_as_strings_of_both(pattern: str, low: int, high: int | None) -> None:
    automaton, length = from_pattern(pattern), Automaton.length(low, high)
    beside = bounded(automaton, low, high)
    folded, whole = (None, True) if beside is None else in_states(beside)
    outside = [StringSet(Automaton.anything())] if beside is None else _outside_string(beside)
    assert whole
    for text in TEXTS:
        expected = automaton.accepts(text) and length.accepts(text)
        assert _accepts(beside, text) == (folded is not None and folded.accepts(text)) == expected
        assert any(_accepts(part, text) for part in outside) != expected


@pytest.mark.parametrize(
    ("pattern", "gap"),
    [("^.*$", 1), ("^(ab)*$", 2), ("^(a{3}|b{5})*$", 3), (r"\.js$", 3), (r"^[a-z]*\.js$", 1), ("^(ab){0,3}$", 2)],
)
def test_gaps_between_lengths_are_found(pattern: str, gap: int) -> None:
    assert measures(from_pattern(pattern)).gap == gap


@pytest.mark.parametrize("lengths", [(3, 5), (0, 1, 2), (1, 2, 9), (4,), (0, 7, 8, 20), (2, 3, 4, 5, 7)])
def test_gaps_between_the_lengths_of_few_words_are_found(lengths: tuple[int, ...]) -> None:
    automaton = Automaton.of("ab"[length % 2] * length + "c" for length in lengths)
    gaps = [1]
    for state in range(automaton.states):
        sizes = sorted({len(text) for text in _words(automaton, state)})
        gaps += [after - before for before, after in pairwise(sizes)]
    assert measures(automaton).gap == max(gaps)


def _words(automaton: Automaton, state: int) -> list[str]:
    found = [""] if state in automaton.accepting else []
    return found + ["x" + text for _, target in automaton.moves(state) for text in _words(automaton, target)]


def test_what_cannot_be_counted_is_in_states() -> None:
    """Between 7 and 8 characters there is a word of two characters at a time, but not for every beginning of three."""
    even = bounded(from_pattern("^(ab)*$"), 7, 8)
    assert even is not None
    assert is_countable(even)
    odd = bounded(from_pattern("^(abc)*$"), 7, 8)
    assert odd is None
    mixed = bounded(from_pattern("^(abc|de)*$"), 7, 7)
    assert mixed is not None
    assert not mixed.is_bounded


@pytest.mark.parametrize(
    ("pattern", "states", "low", "high"),
    [
        (r"^[^\n\r]{1,2000}$", 1, 1, 2000),
        ("^.{3,500}$", 1, 3, 500),
        ("^[a-z]{0,1000000}$", 1, 0, 1_000_000),
        ("^[a-z]{100,}$", 1, 100, None),
        ("^x-[a-z0-9]{20,30}[0-9]{2}$", 5, 24, 34),
        ("^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$", 3, 0, 63),
        ("^[a-z]{1,30}@[a-z]{1,60}$", 92, 0, None),
        ("[a-z]{20}", 21, 0, None),
        ("^[0-9]{4}-[0-9]{2}$", 8, 0, None),
        ("^([a-z]{0,20}|[A-Z]{0,30})$", 50, 0, None),
        ("^[a-z]{20,30}(ab|cd)$", 4, 22, 32),
        ("^[a-z]{20,30}(ab|c)$", 53, 0, None),
        (r"^\\c{3,30}x([^a\n], |-){35}[0-9]?$", 208, 0, None),  # too many states to compare
    ],
)
def test_patterns_that_count_are_counted_where_that_says_the_same(
    pattern: str, states: int, low: int, high: int | None
) -> None:
    strings = counted_pattern(pattern)
    assert strings is not None
    assert (strings.automaton.states, strings.low, strings.high) == (states, low, high)
