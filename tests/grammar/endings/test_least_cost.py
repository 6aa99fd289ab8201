"""What counts cost: views of a bounded size, bounds of endings that hold and fall, long runs cut quickly."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from engine import Constraint
from engine.grammar import GrammarService
from engine.grammar.endings.completion_table import DocumentCursor
from engine.grammar.masks.bitmask import ids, words
from engine.grammar.matching import narrowing, other_endings
from engine.grammar.vocabulary import shortest_tokenization
from tests.grammar.matching.test_narrowing import SCHEMAS

LIST = {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "maxItems": 5}}, "$ref": "#/$defs/a"}


def test_what_a_mask_depends_on_does_not_grow_with_the_depth(byte_service: GrammarService) -> None:
    grammar = byte_service.compile(Constraint.json_schema(LIST))
    assert grammar.narrowing is not None
    sizes = []
    for depth in (20, 200):
        track = grammar.track()
        assert track is not None
        track.push(b"[" * depth)
        view = grammar.narrowing.view(track.at)
        assert view is not None
        sizes.append(len(repr(view)))
    assert sizes[1] < sizes[0] + 20


DEAREST = {
    "type": "object",
    "properties": {"a": {"type": "null"}, "cc": {"type": "null"}, "a_name_of_many_tokens": {"type": "null"}},
    "additionalProperties": False,
}
UNDECLARED = {"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": {"type": "null"}}
IMPLYING = {
    "type": "object",
    "properties": {f"k{i}": {"type": "null"} for i in range(16)},
    "dependentRequired": {f"k{i}": [f"k{(i * 7 + 1) % 16}"] for i in range(16)},
}
FREE = {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 3}
EITHER = {"type": "object", "required": ["q"], "dependentSchemas": {"a": {"minProperties": 2}}}
"""Any other key leads to the ending with `q` alone; that with `a` before it is longer."""
DEAR_END = {"type": "string", "pattern": "^a*b$", "minLength": 5}
"""Four of a letter are one token, three are three."""


@pytest.mark.parametrize("schema", [*SCHEMAS, LIST, DEAREST, UNDECLARED, IMPLYING, FREE, EITHER, DEAR_END], ids=str)
def test_the_bound_of_an_ending_is_one(byte_service: GrammarService, schema: Any) -> None:
    grammar = byte_service.compile(Constraint.json_schema(schema, conformance="spec"))
    mask = np.zeros((1, words(grammar.vocabulary.size)), dtype=np.int32)
    for walk in range(4):
        chance, matcher = random.Random(walk), grammar.matcher()
        for _ in range(25):
            track = matcher._track
            assert isinstance(track, DocumentCursor)
            assert track.counted_bound() + 1 >= len(matcher.shortest_ending())
            matcher.fill(mask, 0)
            matcher.accept(int(chance.choice(ids(mask[0]))))
            if matcher.terminated:
                break


@pytest.mark.parametrize("text", [b'{"a":null,"cc":null,', b'{"cc":null,"a":null,', b'{"a":null,'], ids=repr)
def test_the_bound_counts_the_dearest_key_where_only_that_is_left(byte_service: GrammarService, text: bytes) -> None:
    matcher = byte_service.compile(Constraint.json_schema(DEAREST, conformance="spec")).matcher()
    for token in byte_service.vocabulary.segmenter.cut(text) or ():
        assert matcher.accept(token)
    assert matcher._track is not None
    assert matcher._track.counted_bound() + 1 >= len(matcher.shortest_ending())


@pytest.mark.parametrize("text", [b'{"k3":null,"k4', b'{"k3":null,', b'{"k2'], ids=repr)
def test_the_bound_counts_what_an_open_key_implies(byte_service: GrammarService, text: bytes) -> None:
    matcher = byte_service.compile(Constraint.json_schema(IMPLYING)).matcher()
    for token in byte_service.vocabulary.segmenter.cut(text) or ():
        assert matcher.accept(token)
    assert matcher._track is not None
    assert matcher._track.counted_bound() + 1 >= len(matcher.shortest_ending())


@pytest.mark.parametrize("open_key", [b"", b',"k0', b',"key1'], ids=repr)
def test_a_long_ending_is_not_looked_for_at_every_step(
    byte_service: GrammarService, open_key: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the document stands, in a key too that may be there already."""
    names = [f"key{n:03}" for n in range(300)]
    schema = {"type": "object", "properties": {n: {"type": "null"} for n in names}, "required": names}
    matcher = byte_service.compile(
        Constraint.json_schema({**schema, "maxProperties": 310}, conformance="spec")
    ).matcher()
    for token in byte_service.vocabulary.segmenter.cut(_members(names[:20]) + open_key) or ():
        assert matcher.accept(token)
    monkeypatch.setattr(type(matcher), "shortest_ending", None)
    assert matcher.fits(10_000)
    assert not matcher.fits(2_500)


def test_what_a_detour_draws_from_does_not_depend_on_what_is_remembered(
    byte_service: GrammarService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "_PIECE", 1)
    ways = [{"type": "string", "pattern": f"^[^{c}]*$", "maxLength": 3 * n + 2} for n, c in enumerate("abcdef")]
    matcher = byte_service.compile(Constraint.json_schema({"anyOf": ways}, conformance="spec")).matcher()
    for token in b'"xyz':
        assert matcher.accept(token)
    assert other_endings._quick_mask(matcher.fork()) is None
    mask = np.zeros((1, words(matcher.grammar.vocabulary.size)), dtype=np.int32)
    matcher.fill(mask, 0)
    assert other_endings._quick_mask(matcher.fork()) is None
    monkeypatch.setattr(other_endings, "_PIECES", 10_000)
    assert (other_endings._quick_mask(matcher.fork()) == mask[0]).all()


def test_the_bound_falls_as_the_document_grows(byte_service: GrammarService) -> None:
    names = [f"key{n:03}" for n in range(60)]
    schema = {"type": "object", "properties": {name: {"type": "null"} for name in names}, "required": names}
    for grown, text in (({"type": "string", "minLength": 3000}, b'"' + b"b" * 2900), (schema, _members(names[:55]))):
        matcher = byte_service.compile(Constraint.json_schema(grown, conformance="spec")).matcher()
        assert matcher._track is not None
        matcher._track.push(text)
        assert matcher._track.counted_bound() < 0.9 * matcher._track.bound


def _members(names: list[str]) -> bytes:
    return b"{" + b",".join(b'"%s":null' % name.encode() for name in names)


def test_a_long_run_is_cut_as_a_short_one_is(byte_service: GrammarService) -> None:
    segmenter, texts = byte_service.vocabulary.segmenter, byte_service.vocabulary.texts
    for unit in (b" ", b"a", "é".encode()):
        for before, after in ((b"", b""), (b'{"', b'"}'), (b"the", b"in")):
            text = before + unit * (3 * shortest_tokenization._KEPT_OF_RUN) + after
            cut = segmenter.cut(text)
            assert cut is not None
            assert b"".join(texts[token] or b"" for token in cut) == text
            assert len(cut) == segmenter.counts(text)[0]
