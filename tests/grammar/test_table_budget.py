"""What endings remember stays bounded however many grammars there are, and forgetting changes no answer."""

from __future__ import annotations

import gc
import random

import numpy as np
import pytest

from engine.config import Limits
from engine.grammar import GrammarService, Matcher
from engine.grammar.endings.completion_table import CompletionTable, DocumentCursor
from engine.grammar.masks.bitmask import to_bools, words
from engine.grammar.pieces import at_once
from engine.grammar.shared.table_budget import TableBudget
from engine.request import Constraint

OBJECT = {"type": "object", "additionalProperties": {"type": ["string", "number", "array"]}}


class Tables:
    def __init__(self) -> None:
        self.entries = 0

    def forget(self) -> None:
        self.entries = 0


def test_those_that_have_not_grown_for_longest_start_afresh() -> None:
    allowance = TableBudget(most_entries=100)
    first, second, third = Tables(), Tables(), Tables()
    for tables, entries in ((first, 40), (second, 40), (first, 50), (third, 30)):
        tables.entries = entries
        allowance.grown(tables)
    assert (first.entries, second.entries, third.entries) == (50, 0, 30)
    assert allowance.entries == 80
    del first
    gc.collect()
    assert allowance.entries == 30


def written(matcher: Matcher, seed: int, count: int) -> None:
    draw, size = random.Random(seed), matcher.grammar.vocabulary.size
    row = np.zeros((1, words(size)), dtype=np.int32)
    while matcher.tokens < count:
        matcher.fill(row, 0)
        legal = [int(token) for token in np.flatnonzero(to_bools(row[0], size))]
        if legal == [256]:
            return
        assert matcher.accept(draw.choice([token for token in legal if token != 256]))


def test_forgetting_in_the_middle_of_documents_changes_no_ending(
    byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose tables hold next to nothing finds what one with all the room finds."""
    monkeypatch.setattr("engine.grammar.pushdown.pushdown._REPORTED", 50)
    grammar = byte_service.compile(Constraint.json_schema(OBJECT, conformance="spec"))
    small, rules = TableBudget(most_entries=150), grammar.compiled.grammar
    assert rules is not None
    cramped = CompletionTable(rules, byte_service.vocabulary.segmenter, 256, small)
    most, fresh = 0, cramped.pushdown.start
    for seed in range(60):
        matcher, track = grammar.matcher(), DocumentCursor(cramped, Limits())
        written(matcher, seed, 60)
        for token in matcher.token_ids:
            track.push(byte_service.vocabulary.texts[token] or b"")
            most = max(most, cramped.pushdown.entries)
        ending = at_once(track.ending(0))
        assert ending is not None
        assert len(ending) == matcher.need()
    assert most < 400
    assert cramped.pushdown.start is not fresh
