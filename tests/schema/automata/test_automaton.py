"""Automata are the languages they say they are, canonical, and end when they grow too large."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.schema.automata.alphabet import SCALARS, partition, without
from engine.schema.automata.automaton import Automaton, AutomatonTooLarge
from engine.schema.sets.words import ascending, shortest_word

LETTERS = "ab😀"
UNIVERSE = ["".join(word) for size in range(5) for word in product(LETTERS, repeat=size)]

words = st.lists(st.text(LETTERS, max_size=3), max_size=5)


@st.composite
def languages(draw: st.DrawFn, depth: int = 2) -> Automaton:
    """Unions, intersections, differences, complements, sequences and repetitions of word lists."""
    if depth == 0 or draw(st.booleans()):
        return Automaton.of(draw(words))
    first = draw(languages(depth=depth - 1))
    kind = draw(st.sampled_from("&|-~+*re"))
    if kind in "~*r":
        low = draw(st.integers(0, 2))
        return {"~": lambda: ~first, "*": first.star, "r": lambda: first.repeat(low, low + 1)}[kind]()
    second = draw(languages(depth=depth - 1))
    if kind == "e":
        return Automaton.either([(first, second), (second,)])
    return {"&": first & second, "|": first | second, "-": first - second, "+": first + second}[kind]


def members(automaton: Automaton) -> set[str]:
    return {word for word in UNIVERSE if automaton.accepts(word)}


@given(first=words, second=words)
def test_operators_are_those_of_sets(first: list[str], second: list[str]) -> None:
    a, b = Automaton.of(first), Automaton.of(second)
    assert members(a) == set(first)
    assert members(a & b) == set(first) & set(second)
    assert members(a | b) == set(first) | set(second)
    assert members(a - b) == set(first) - set(second)
    assert members(~a) == set(UNIVERSE) - set(first)
    assert members(a + b) == {x + y for x in first for y in second} & set(UNIVERSE)
    assert Automaton.either([(a, b), (b,)]) == (a + b) | b
    assert (a & b).is_empty == (not set(first) & set(second))
    assert (b - a).is_empty == (set(first) >= set(second))


@given(part=words, low=st.integers(0, 3), more=st.integers(0, 2))
def test_repetition(part: list[str], low: int, more: int) -> None:
    repeated = Automaton.of(part).repeat(low, low + more)
    expected: set[str] = set()
    current = {""}
    for count in range(low + more + 1):
        expected |= current if count >= low else set()
        current = {x + y for x in current for y in part}
    assert members(repeated) == expected & set(UNIVERSE)
    once = Automaton.of(part)
    assert once.repeat(low, None) == repeated | once.repeat(low, low) + once.star()


@settings(deadline=None)
@given(a=languages(), b=languages())
def test_equal_languages_are_equal_objects(a: Automaton, b: Automaton) -> None:
    assert (a | b) == ~(~a & ~b)
    assert (a - b) == (a & ~b)
    assert ~~a == a
    assert ((a | b).digest == b.digest) == (a - b).is_empty
    assert hash(a & b) == hash(b & a)


@settings(deadline=None)
@given(a=languages())
def test_queries(a: Automaton) -> None:
    assert a.is_empty == (next(ascending(a), None) is None)
    if not a.is_empty:
        shortest = shortest_word(a, 0, 0)
        assert a.accepts(shortest)
        assert shortest == next(ascending(a))
        assert not any(a.accepts(word) for word in UNIVERSE if len(word) < len(shortest))
    listed = a.strings(2000)
    if listed is not None:
        assert listed == sorted(set(listed))
        assert len(listed) == a.count()
        assert Automaton.of(listed) == a
        if listed:
            assert a.strings(len(listed) - 1) is None


@settings(deadline=None)
@given(a=languages())
def test_the_table_is_minimal_and_live(a: Automaton) -> None:
    rows = [(state in a.accepting, row) for state, row in enumerate(a.table)]
    assert len(set(rows)) == len(rows)
    assert a.is_empty or all(_accepts_something(a, state) for state in range(a.states))


def _accepts_something(a: Automaton, start: int) -> bool:
    seen, stack = {start}, [start]
    while stack:
        state = stack.pop()
        if state in a.accepting:
            return True
        for target in set(a.table[state]) - {-1} - seen:
            seen.add(target)
            stack.append(target)
    return False


def test_lengths_count_code_points() -> None:
    two_to_four = Automaton.length(2, 4)
    assert [two_to_four.accepts("😀" * n) for n in range(6)] == [False, False, True, True, True, False]
    assert Automaton.length(0, None) == Automaton.anything()
    assert Automaton.length(3, 2) == Automaton.nothing()
    assert Automaton.length(0, 0) == Automaton.literal("")
    assert Automaton.length(300, 300).states == 301


def test_surrogates_are_in_no_language() -> None:
    assert not Automaton.anything().accepts("\ud800")
    assert not (~Automaton.literal("x")).accepts("\udfff")
    assert Automaton.of(["\ud83d", "a"]) == Automaton.literal("a")
    assert Automaton.characters([(0xD000, 0xF000)]) == Automaton.characters([(0xD000, 0xD7FF), (0xE000, 0xF000)])
    assert Automaton.characters([(0xD800, 0xDFFF)]).is_empty


def test_shortest_prefers_plain_characters() -> None:
    assert shortest_word(Automaton.length(3, 5), 0, 0) == "aaa"
    assert shortest_word(Automaton.characters([(0x00, 0x39)]), 0, 0) == "0"
    assert shortest_word(Automaton.characters([(0x22, 0x22)]), 0, 0) == '"'


def test_partition_has_the_coarsest_classes() -> None:
    letters = partition((((0x61, 0x7A),), ((0x61, 0x65), (0x30, 0x39))))
    assert letters.size == 4
    assert letters.class_of(ord("b")) != letters.class_of(ord("x"))
    assert letters.classes_in(((0x61, 0x7A),)) == tuple(sorted({letters.class_of(0x61), letters.class_of(0x7A)}))
    assert letters.class_of(0xD900) == -1
    assert without([]) == SCALARS


def test_digests_do_not_depend_on_the_process() -> None:
    program = (
        "from engine.schema.automata.automaton import Automaton\n"
        "print((Automaton.of(['ab', 'é😀']) | Automaton.length(3, 9)).digest)"
    )
    run = [sys.executable, "-c", program]
    digests = {subprocess.run(run, capture_output=True, check=True, env={"PYTHONHASHSEED": s}).stdout for s in "12"}
    assert len(digests) == 1


@pytest.mark.parametrize(
    "grow",
    [
        lambda: Automaton.length(0, 10**9),
        lambda: Automaton.length(10**9, None),
        lambda: Automaton.length(0, 30_000),
        lambda: Automaton.of(str(n) * 5 for n in range(10**5)),
        lambda: Automaton.of(["a", "b"]).star() + Automaton.literal("a") + Automaton.length(16, 16),
        lambda: Automaton.length(0, 400).repeat(0, 400),
    ],
)
def test_what_grows_too_large_ends_quickly(grow: object) -> None:
    start = time.process_time()
    with pytest.raises(AutomatonTooLarge):
        grow()  # type: ignore[operator]
    assert time.process_time() - start < 5
