"""Masks made ahead are those that a document would have had made, in short pieces, and go far enough."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from engine.grammar import CompiledGrammar, GrammarService, Matcher
from engine.grammar.masks.bitmask import Rows, draw, legal, words
from engine.grammar.matching.foresight import Foresight
from engine.grammar.matching.likely import Likely
from engine.judge import judge
from engine.request import Constraint
from tests.grammar.fakes import byte_tokenizer

PLAIN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[a-m][n-z]{2,4}$"},
        "kind": {"enum": ["first", "second"]},
        "sizes": {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 1},
        "inner": {"type": "object", "properties": {"flag": {"type": "boolean"}, "text": {"minLength": 5}}},
        "rest": {"type": ["string", "null"], "maxLength": 7},
    },
    "required": ["name", "sizes"],
}
TREE = {"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"l": {"$ref": "#/$defs/n"}, "v": {}}, "type": "object"}}}
UNION = {"anyOf": [{"properties": {f"k{n}": {"maxLength": n}}, "required": [f"k{n}"]} for n in range(20)]}
MANY = {"type": "object", "properties": {f"key{n}": {"type": "string"} for n in range(2_000)}}
LONG = {"type": "string", "minLength": 30_000}
SCHEMAS = {"plain": PLAIN, "tree": TREE, "union": UNION, "many": MANY, "long": LONG}


def at_once(matcher: Matcher) -> Future[float]:
    made: Future[float] = Future()
    matcher.make()
    made.set_result(0.0)
    return made


def foresight_of(grammar: CompiledGrammar) -> Foresight:
    return Foresight(grammar, byte_tokenizer().encode)


def rows_of(grammar: CompiledGrammar, count: int = 1) -> Rows:
    return np.zeros((count, words(grammar.vocabulary.size)), dtype=np.int32)


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Nobody else's objects are walked over in a piece that is timed."""
    gc.disable()
    yield
    gc.enable()


def test_likely_texts_are_documents_and_the_first_has_every_key(byte_service: GrammarService) -> None:
    constraint = Constraint.json_schema(PLAIN)
    grammar = byte_service.submit(constraint).result()
    assert grammar.completions is not None
    likely = Likely(grammar.completions.pushdown)
    texts = [b"".join(likely.text(grammar.completions.start)) for _ in range(3)]
    for text in texts:
        assert grammar.accepts(text)
        assert judge(constraint, text).valid
    assert list(json.loads(texts[0])) == list(PLAIN["properties"])
    assert list(json.loads(texts[0])["inner"]) == ["flag", "text"]
    assert len(set(texts)) == 3


@pytest.mark.parametrize("name", ["plain", "tree"])
def test_masks_made_ahead_are_those_made_at_need(byte_service: GrammarService, name: str) -> None:
    grammar = byte_service.submit(Constraint.json_schema(SCHEMAS[name])).result()
    masks, foresight, chance = grammar.vocabulary.masks, foresight_of(grammar), random.Random(4)
    kept = 0
    for _ in range(6):
        masks.clear()
        foresight = foresight_of(grammar)
        while not foresight.done:
            foresight.go_on(at_once)
        matcher, rows = grammar.matcher(), rows_of(grammar, 2)
        ahead = dict(masks._kept)
        for _ in range(40):
            masks._kept.clear()
            masks._kept.update(ahead)
            kept += matcher.kept
            matcher.fill(rows, 0)
            masks.clear()
            matcher.fill(rows, 1)
            assert (rows[0] == rows[1]).all()
            if not matcher.accept(draw(rows[0], chance)) or matcher.terminated:
                break
    assert kept > 20


def test_a_document_like_the_guess_finds_every_mask(byte_service: GrammarService) -> None:
    grammar = byte_service.submit(Constraint.json_schema(PLAIN)).result()
    grammar.vocabulary.masks.clear()
    foresight, matcher = foresight_of(grammar), grammar.matcher()
    while not foresight.done:
        foresight.go_on(at_once)
    row = rows_of(grammar)
    for token in b'{"name":"box","kind":"second","sizes":[17,null],"inner":{"flag":true,"text":"hello"},"rest":"a"}':
        assert matcher.kept, matcher.text(matcher.token_ids)
        matcher.fill(row, 0)
        assert legal(row[0], token)
        assert matcher.accept(token)


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("conformance", ["tight", "spec"])
def test_no_schema_makes_a_long_piece(byte_service: GrammarService, name: str, conformance: Any) -> None:
    grammar = byte_service.submit(Constraint.json_schema(SCHEMAS[name], conformance=conformance)).result()
    foresight, pieces = foresight_of(grammar), list[float]()
    while not foresight.done:
        began = time.thread_time()
        foresight.go_on(at_once)
        pieces.append(time.thread_time() - began)
    assert max(pieces) < 0.05
    assert sum(pieces) < 0.6


def test_where_no_thread_is_free_it_waits(byte_service: GrammarService) -> None:
    grammar = byte_service.submit(Constraint.json_schema(PLAIN)).result()
    grammar.vocabulary.masks.clear()
    foresight = foresight_of(grammar)
    while foresight.go_on(lambda _: None):
        pass
    assert not foresight.done
    assert not foresight.go_on(lambda _: None)
    while not foresight.done:
        foresight.go_on(at_once)
    assert len(grammar.vocabulary.masks) > 30


def test_a_mask_that_cannot_be_made_ends_it_and_nothing_else(byte_service: GrammarService) -> None:
    grammar = byte_service.submit(Constraint.json_schema(PLAIN)).result()
    grammar.vocabulary.masks.clear()
    foresight, failed = foresight_of(grammar), Future[float]()
    failed.set_exception(RuntimeError("planted"))
    while foresight.go_on(lambda _: failed):
        pass
    assert foresight.done
    assert grammar.matcher().fill(rows_of(grammar), 0)


@pytest.mark.parametrize(
    "constraint", [Constraint.regex("a+b"), Constraint.lark('start: "a"*'), Constraint.ebnf('root ::= "a"*')]
)
def test_only_json_is_guessed(byte_service: GrammarService, constraint: Constraint) -> None:
    foresight = foresight_of(byte_service.submit(constraint).result())
    assert not foresight.go_on(at_once)
    assert foresight.done
