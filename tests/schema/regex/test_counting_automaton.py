"""Counting automata read what the pattern matches, know how long words are, and refuse what the text does not tell."""

from __future__ import annotations

import re
from itertools import pairwise, product

import pytest

from engine.schema.regex.counting_automaton import NotCountableError, State, counting_automaton
from engine.schema.sets.pattern_counts import counted_pattern, restricted

WORDS = ["".join(letters) for size in range(9) for letters in product("ab-", repeat=size)]
COUNTED = ["^(a{1,3}b){2,3}$", "^(ab|-){2,4}$", "^a{2,3}b(-|a{2}){0,2}$", "^((a?b){1,2}-)*$", "^a{2,}(b{3}a)?$",
           "^(a{2}-){2}b{0,3}$", "^a{2}a{1,3}$", "^(-|a{0,2}b)+$", "^((ab){0,2}-){1,2}b?$"]  # fmt: skip


@pytest.mark.parametrize("pattern", COUNTED)
def test_it_reads_what_the_pattern_matches(pattern: str) -> None:
    automaton = counting_automaton(pattern)
    words = [word for word in WORDS if re.fullmatch(pattern, word)]
    beginnings = {word[:end] for word in words for end in range(len(word) + 1)}
    sizes: dict[State, set[int]] = {}
    for word in WORDS:
        state = automaton.run(automaton.start, word)
        assert (state is not None and automaton.accepts(state)) == (word in words), word
        assert (state is not None) >= (word in beginnings), word
        if word in words:
            for end in range(len(word) + 1):
                before = automaton.run(automaton.start, word[:end])
                assert before is not None
                sizes.setdefault(before, set()).add(len(word) - end)
    for state, found in sizes.items():
        assert min(found) == automaton.fewest(state), state
        most = automaton.most(state)
        assert most is None or max(found) <= most, state
        known = sorted(found)
        assert all(more - size <= automaton.gap for size, more in pairwise(known)), state


@pytest.mark.parametrize(
    "pattern",
    ["^(a{1,3}){2,4}$", "^a{40}a{2,50}$", "^(a|ab){2,50}b$", "a{2,50}", "^a{2,50}", "^(?=a)a{2,50}$", "^(a?){2,3}a$"],
)
def test_what_the_text_does_not_tell_is_not_counted(pattern: str) -> None:
    with pytest.raises(NotCountableError):
        counting_automaton(pattern)


def test_a_length_beside_is_counted_where_some_word_is_as_long() -> None:
    part = counted_pattern("^(aab){2,60}$")
    assert part is not None
    assert part.pattern is not None
    counted = restricted(part, 7, 9)
    assert counted is not None
    assert (counted.low, counted.high) == (7, 9)
    assert counted.pattern == part.pattern
    assert restricted(part, 7, 8) is None
    assert restricted(part, 0, 5) is None
