"""Masks hold exactly the tokens through which a document can be followed byte by byte, wherever it stands."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from engine.grammar import CompiledGrammar, GrammarService
from engine.grammar.endings.position import Position, follow
from engine.grammar.masks.bitmask import ids, words
from engine.judge import judge
from engine.request import Constraint

WORDS = words(300)
LENGTHS: list[dict[str, Any]] = [
    {"maxLength": 3},
    {"minLength": 2},
    {"minLength": 2, "maxLength": 5},
    {"minLength": 3, "maxLength": 3},
    {"maxLength": 0},
    {"pattern": "^[ab]+$", "maxLength": 4},
    {"pattern": "^a.*b$", "minLength": 3, "maxLength": 6},
    {"pattern": "^(ab)*$", "maxLength": 7},
    {"pattern": "^x*y$", "minLength": 5},
    {"anyOf": [{"maxLength": 2}, {"minLength": 4, "maxLength": 5}]},
    {"anyOf": [{"pattern": "^a+$", "maxLength": 5}, {"maxLength": 3}]},
    {"enum": ["a", "aaaa", "\n"]},
]
SCHEMAS: list[Any] = [{"type": "string", **length} for length in LENGTHS]
SCHEMAS += [
    {"type": "array", "items": {"type": "string", **length}, "minItems": 1, "maxItems": 3} for length in LENGTHS
]
SCHEMAS += [
    {"properties": {"a": {"maxLength": 2, "type": "string"}, "b": {"type": "integer"}}, "required": ["a"]},
    {"properties": {"a": {}, "ab": {}, "c": {}}, "required": ["a", "c"], "maxProperties": 3, "type": "object"},
    {"properties": {f"k{n}": {"type": "string"} for n in range(6)}, "minProperties": 3, "type": "object"},
    {"additionalProperties": {"type": "boolean"}, "minProperties": 2, "maxProperties": 3, "type": "object"},
    {"patternProperties": {"^[ab]$": {"type": "null"}}, "additionalProperties": False, "type": "object"},
    {
        "oneOf": [
            {"properties": {"a": {"const": 1}, "b": {}}, "required": ["a"]},
            {"properties": {"a": {"const": 2}, "c": {}}, "required": ["a", "c"]},
        ],
        "type": "object",
    },
    {
        "properties": {"aab": {"type": "string"}},
        "patternProperties": {"^a": {"type": "number"}},
        "dependentRequired": {"ab": ["b"]},
        "type": "object",
    },
    {
        "anyOf": [
            {
                "properties": {"ab": {}, "b": {}, "bb": {}, "": {}},
                "required": ["ab", "b"],
                "additionalProperties": False,
            },
            {"patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False},
        ],
        "type": "object",
    },
    {
        "properties": {"ab": {"type": "null"}},
        "dependentRequired": {"c": ["d"]},
        "dependentSchemas": {"a": {"additionalProperties": {"type": "null"}}},
        "type": "object",
    },
    {
        "properties": {key: {"type": "null"} for key in ("a", "aa", "ab", "b", "ba", "c", "ca", "cb")},
        "dependentRequired": {"a": ["aa", "c"], "aa": ["ab"], "b": ["ba"], "ba": ["b"], "c": ["a"], "ca": ["cb"]},
        "additionalProperties": False,
        "minProperties": 2,
        "maxProperties": 5,
        "type": "object",
    },
    {
        "properties": {"a": {"type": "null"}, "aa": {"type": "null"}},
        "dependentRequired": {"b": ["aa"], "aa": ["a", "c"], "c": ["b"], "cc": ["c"]},
        "type": "object",
    },
    {"items": {"type": "integer"}, "minItems": 1, "uniqueItems": True, "contains": {"minimum": 5}, "type": "array"},
    {
        "properties": {"": {"type": "null"}, "b": {"type": "null"}},
        "patternProperties": {"^[ab]{1,3}$": {"type": "null"}, "^(ab){2}": {"type": "null"}},
        "required": ["a", 'a"b'],
        "type": "object",
    },
    {
        "properties": {"ba": {"type": "null"}, "b": {"type": "null"}},
        "required": ["ba", "b"],
        "patternProperties": {"^[ac]": {"type": "null"}},
        "additionalProperties": False,
        "type": "object",
    },
    {
        "items": {"type": "object", "additionalProperties": {"type": "array", "maxItems": 1}, "maxProperties": 2},
        "type": "array",
    },
    {
        "type": "object",
        "properties": {f"k{n}": {"type": "integer"} for n in range(9)},
        "required": [f"k{n}" for n in range(9)],
    },
]


def check(grammar: CompiledGrammar, walks: int, steps: int) -> int:
    """Random walks; returns how many documents came to their end."""
    texts = grammar.vocabulary.texts
    stop = grammar.vocabulary.stop_token_ids[0]
    row = np.zeros((1, words(grammar.vocabulary.size)), dtype=np.int32)
    ended = 0
    assert grammar.completions is not None
    pushdown = grammar.completions.pushdown
    followed: dict[Position, set[int]] = {}  # walks meet where they stood before, and positions are values
    for walk in range(walks):
        chance = random.Random(walk)
        matcher = grammar.matcher()
        for step in range(steps):
            assert matcher._track is not None
            at = matcher._track.at
            if at not in followed:
                followed[at] = {t for t, text in enumerate(texts) if text and follow(pushdown, at, text).place.stacks}
            expected = followed[at] | {stop} if at.place.completed else followed[at]
            matcher.fill(row, 0)
            found = set(ids(row[0]).tolist())
            written = matcher.text(matcher.token_ids)
            assert found == expected, (
                written,
                [texts[t] for t in found - expected],
                [texts[t] for t in expected - found],
            )
            ending = matcher.shortest_ending()
            assert ending, written
            verdict = judge(grammar.constraint, written + matcher.text(ending))
            assert verdict.valid or grammar.judge is not None, (written, matcher.text(ending), verdict)
            token = ending[0] if chance.random() < max(0.3, step / 50) else chance.choice(sorted(found))
            assert matcher.accept(token), (written, texts[token])
            if matcher.terminated:
                ended += 1
                text = matcher.text(matcher.token_ids)
                assert judge(grammar.constraint, text).valid or grammar.judge is not None, text
                break
    return ended


@pytest.mark.parametrize("conformance", ["tight", "spec"])
@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_masks_hold_what_can_be_followed(byte_service: GrammarService, number: int, conformance: Any) -> None:
    grammar = byte_service.compile(Constraint.json_schema(SCHEMAS[number], conformance=conformance))
    assert check(grammar, 12, 150)
