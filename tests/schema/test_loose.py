"""Unanchored patterns as waiting loops: the same language, and states that read only what they are about."""

from __future__ import annotations

import random

import pytest

from engine.schema.automaton import Automaton
from engine.schema.loose import Loose, loosened
from engine.schema.pattern import from_pattern
from engine.schema.suffixes import Machine

LETTERS = "ab1-:/x\n\u00e9"
LOOSE = [
    "ab", "abab", "aab|aba", "\\d{2}-\\d", "^x:.+ab?$", "^ab|ba|1-x$", "(ab)*x$", "a(b|1)*x", "a-[^-]*:b", "(?=a)a.b",
    "a.{2}b",
]  # fmt: skip
KEPT = ["^(a|b)*abb$", "^[ab]+(-[ab]+)*$", "^((?!ab).)*$", "[ab]+", "^ab"]


def accepts(machine: Machine, text: str) -> bool:
    states = {0}
    for letter in text:
        moves = [move for state in states for move in machine.moves(state)]
        states = {target for spans, target in moves if any(low <= ord(letter) <= high for low, high in spans)}
    return any(state in machine.accepting for state in states)


def words(automaton: Automaton, seed: str) -> list[str]:
    """Random words and shortest words with random parts cut out or put in; about half are accepted."""
    generator, whole = random.Random(seed), automaton.shortest() or ""
    found = ["".join(generator.choices(LETTERS, k=generator.randrange(9))) for _ in range(150)]
    for _ in range(150):
        cut, filling = (
            generator.randrange(len(whole) + 1),
            "".join(generator.choices(LETTERS, k=generator.randrange(3))),
        )
        found.append(filling + whole[:cut] + filling * generator.randrange(2) + whole[cut:] + filling)
    return found


@pytest.mark.parametrize("pattern", [*LOOSE, *KEPT])
def test_a_loosened_automaton_accepts_the_same_words(pattern: str) -> None:
    automaton = from_pattern(pattern)
    machine = loosened(automaton)
    assert isinstance(machine, Loose) == (pattern in LOOSE)
    judged = [(word, automaton.accepts(word)) for word in words(automaton, pattern)]
    assert {verdict for _, verdict in judged} == {False, True}
    for word, verdict in judged:
        assert accepts(machine, word) == verdict, word


def test_the_way_of_a_match_reads_only_its_own_characters() -> None:
    machine = loosened(from_pattern("/api/v1/users/\\d+/orders"))
    wide = [state for state in range(machine.states) if machine.moves(state)[0][0][-1][1] > 0x7F]
    assert machine.states > 20
    assert len(wide) == 2  # before the match and behind it


def test_equal_loops_of_two_patterns_have_the_same_rules() -> None:
    from engine.schema import lower

    first, second = (
        {x for x in lower({"type": "string", "pattern": p}).grammar.rules if x[0] == "s"} for p in ("aZZ", "bZZ")
    )
    assert len(first & second) == len(first) - 2  # but for the loop and the opening quote
