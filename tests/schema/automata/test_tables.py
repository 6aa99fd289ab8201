"""Minimal tables have a state for each set of words that can follow, and no more."""

from __future__ import annotations

import random
from itertools import product

import pytest

from engine.schema.automata.tables import DEAD, Table, minimise, trim

STATES = 7
WORDS = [word for size in range(STATES + 1) for word in product((0, 1), repeat=size)]


def _endings(rows: Table, accepting: list[bool], state: int) -> frozenset[tuple[int, ...]]:
    def accepts(word: tuple[int, ...]) -> bool:
        at = state
        for letter in word:
            at = DEAD if at == DEAD else rows[at][letter]
        return at != DEAD and accepting[at]

    return frozenset(filter(accepts, WORDS))


@pytest.mark.parametrize("circles", [False, True])
def test_a_minimal_table_tells_apart_what_differs_and_nothing_else(circles: bool) -> None:
    draw, merged = random.Random(1), 0
    for _ in range(60):
        targets = [range(0 if circles else state + 1, STATES) for state in range(STATES)]
        rows: Table = [[draw.choice([DEAD, *some]) for _ in range(2)] for some in targets]
        rows, accepting = trim(rows, [draw.random() < 0.4 for _ in rows])
        small, final = minimise(rows, accepting)
        assert _endings(small, final, 0) == _endings(rows, accepting, 0)
        kinds = {_endings(rows, accepting, state) for state in range(len(rows))}
        assert len(small) == len(kinds)
        merged += len(rows) - len(small)
    assert merged
