"""What a text may cost: deep, long and ambiguous ones take no more time a token, and what is kept does not grow."""

from __future__ import annotations

import time

import pytest

from engine.syntax import State, start
from engine.syntax.stacks import MOST_COMPARED, same

DEEP = 20_000
NESTED = [
    "(",
    "[",
    "{",
    "f(",
    "x[",
    "lambda:",
    "not ",
    "-",
    "a if b else ",
    "match * (",
    "f'{",
    "(yield ",
    "{a:",
]
FLAT = {
    "comment": ("#", "x"),
    "space": ("", " "),
    "string": ("'", "x"),
    "long string": ("'''", "x'\n"),
    "name": ("", "x"),
    "lines": ("", "x = f(1)\n"),
    "blank lines": ("", "\n"),
    "targets": ("", "a = (b, c) = "),
    "attributes": ("", "match.type."),
    "arguments": ("f(", "a, "),
    "characters' names": ("'\\N{", "A B"),
    "soft keywords": ("", "match (a, b)\ntype (a)\ncase\n"),
}


def follow(state: State, piece: str, times: int) -> tuple[State, list[int]]:
    spent = []
    for _ in range(times):
        before = time.thread_time_ns()
        state = state.feed(piece)
        spent.append(time.thread_time_ns() - before)
    return state, spent


@pytest.mark.parametrize("piece", NESTED)
def test_deep_nesting_is_followed_at_the_same_speed(piece: str) -> None:
    state, spent = follow(start("python", "module"), piece, DEEP // len(piece))
    assert state.alive
    assert not state.lost
    assert not state.whole
    tenth = sorted(spent[len(spent) // 10 : len(spent) // 5])
    last = sorted(spent[-len(tenth) :])
    assert last[len(last) // 2] < 5 * tenth[len(tenth) // 2]


@pytest.mark.parametrize("name", FLAT)
def test_what_a_state_holds_does_not_grow_with_the_text(name: str) -> None:
    begin, piece = FLAT[name]
    state, _ = follow(start("python", "module").feed(begin), piece, 30)
    size = state.size
    state, _ = follow(state, piece, 1_000)
    assert state.size <= 2 * size + 10


def test_texts_with_as_many_readings_as_parts_are_followed() -> None:
    state, spent = follow(start("python", "module"), "(a, [b, ", 1_000)
    assert state.alive
    assert not state.lost
    assert not state.feed("??").alive
    assert sorted(spent)[-20] < 100_000_000
    closed, _ = follow(state.feed("c"), "])", 1_000)
    assert closed.whole
    assert closed.feed(" = d").whole


@pytest.mark.parametrize("piece", ["a<b>(", "(a = ", "x = /a/ / "])
def test_readings_of_a_nested_choice_are_united_again(piece: str) -> None:
    state = start("typescript", "expression")
    for character in piece * 100:
        state = state.feed(character)
        assert 1 <= len(state.readings) <= 8
    assert not state.lost


def test_lists_are_compared_down_to_a_bound() -> None:
    one = other = None
    for number in range(MOST_COMPARED - 1):
        one, other = (number, one), (number, other)
    assert same(one, other)
    assert not same((0, (0, one)), (0, (0, other)))


@pytest.mark.parametrize(("language", "unit", "begin", "piece"), [
    ("java", "expression", "", "a ? b : "),
    ("java", "expression", "", "a -> "),
    ("sql", "module", "select a ", "union select a "),
])  # fmt: skip
def test_a_chain_that_reduces_at_every_token_costs_a_bounded_time(
    language: str, unit: str, begin: str, piece: str
) -> None:
    state, spent = follow(start(language, unit).feed(begin), piece, 1_100)
    assert state.alive
    assert sorted(spent)[-20] < 100_000_000
