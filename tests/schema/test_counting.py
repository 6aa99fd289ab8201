"""Grammars with guards, read by a plain reader: they hold just what the judge accepts and lead to no dead end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import permutations, product
from typing import Any

import pytest
import xgrammar

from engine.schema.lower import lower
from engine.schema.reading.validator import Validator
from tests.schema.counting import Reader
from tests.schema.matching import dead_ends, lost_walks

STRINGS: list[dict[str, Any]] = [
    {"maxLength": 2},
    {"minLength": 2},
    {"minLength": 2, "maxLength": 2},
    {"minLength": 1, "maxLength": 3, "pattern": "b$"},
    {"pattern": "^a*b$", "minLength": 3},
    {"pattern": "^(ab)*$", "minLength": 3, "maxLength": 5},
    {"pattern": "^(abb|ba)*$", "minLength": 4, "maxLength": 4},
    {"pattern": "^(ab|ba)*(aab)?$", "minLength": 4, "maxLength": 7},
    {"pattern": "^a?b*\n?$", "minLength": 2, "maxLength": 4},
    {"pattern": "^[^a]{1,20}$", "maxLength": 2},
    {"pattern": "^a[ab]{0,17}b$", "maxLength": 3},
    {"pattern": "^.{1,3}$"},
    {"pattern": "^(a{1,40}b){2,3}$", "maxLength": 7},
    {"pattern": "^(a{0,40}b|\n){1,3}$", "minLength": 3, "maxLength": 6},
    {"pattern": "^(aab){2,40}$", "minLength": 5},
    {"pattern": "^(a{1,40}b){1,3}[0-9]{2}$|^\n{3}$", "minLength": 5, "maxLength": 6},
    {"pattern": "aa|b$", "maxLength": 4},
    {"pattern": "^[a-z]*\\.js$|^b", "minLength": 2, "maxLength": 5},
    {"enum": ["a", "ab", "bab", "abba"], "minLength": 2, "maxLength": 3},
    {"not": {"minLength": 2, "maxLength": 2}},
    {"not": {"minLength": 2, "pattern": "^a"}},
    {"not": {"enum": ["ab", "b", "ba"]}, "maxLength": 3},
    {"anyOf": [{"maxLength": 1}, {"minLength": 3, "pattern": "^b"}]},
    {"oneOf": [{"maxLength": 3}, {"minLength": 2}]},
    {"oneOf": [{"maxLength": 4, "pattern": "^a"}, {"minLength": 2, "pattern": "b$"}]},
]


BIT: dict[str, Any] = {"enum": [0, 1]}
OBJECTS: list[dict[str, Any]] = [
    {"properties": {"a": BIT, "b": BIT}, "required": ["a"]},
    {"properties": {"a": BIT, "b": BIT}, "required": ["a", "b"], "maxProperties": 2},
    {"properties": {"a": BIT, "b": BIT}, "required": ["a"], "minProperties": 2, "maxProperties": 2},
    {"minProperties": 2, "maxProperties": 3},
    {"required": ["b", "ab"]},
    {"patternProperties": {"^a": BIT}, "additionalProperties": False, "minProperties": 1},
    {"patternProperties": {"^[ab]$": BIT}, "additionalProperties": False, "minProperties": 2},
    {"patternProperties": {"^(a|b[ab]*)$": BIT}, "additionalProperties": False, "maxProperties": 2},
    {"patternProperties": {"b$": BIT, "^a": {"const": 1}}, "additionalProperties": False, "minProperties": 2},
    {"propertyNames": {"maxLength": 1}, "minProperties": 1},
    {"properties": {"a": BIT, "b": BIT, "c": BIT}, "additionalProperties": False,
     "anyOf": [{"required": ["a"]}, {"required": ["b", "c"]}]},
    {"properties": {"a": BIT, "b": BIT, "c": BIT}, "additionalProperties": False,
     "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"anyOf": [{"maxProperties": 1, "required": ["a"]},
               {"minProperties": 2, "properties": {"b": {"const": 0}}, "required": ["b"]}]},
    {"anyOf": [{"required": [key], "properties": {key: {"const": 1}}} for key in "abc"]},
    {"properties": {"a": BIT, "b": BIT}, "additionalProperties": False, "dependentRequired": {"a": ["b"]}},
    {"dependentRequired": {"a": ["b"]}, "maxProperties": 2},
    {"dependentRequired": {"a": ["b", "c"], "b": ["a"], "ab": [""], "d": ["e"], "e": ["d"], "f": ["a"], "g": ["f"]}},
    {"dependentRequired": {"a": ["b"], "b": ["c"], "c": ["ab"]}, "maxProperties": 2},
    {"dependentRequired": {"a": ["b"], "b": ["a"]}, "minProperties": 1, "maxProperties": 1},
    {"properties": {"a": BIT, "b": BIT, "c": BIT, "ab": BIT}, "additionalProperties": False,
     "dependentRequired": {"a": ["b"], "b": ["a"], "c": ["ab"], "ab": ["c"]}, "minProperties": 1, "maxProperties": 3},
    {"properties": {"a": BIT, "b": BIT, "c": BIT}, "additionalProperties": False,
     "dependentRequired": {"a": ["b"], "b": ["c"]}, "minProperties": 2},
    {"properties": {"b": False}, "dependentRequired": {"a": ["b"], "c": ["a"]}, "minProperties": 1},
    {"dependentRequired": {"a": ["b"]}, "anyOf": [{"required": ["a"]}, {"dependentRequired": {"c": ["ab"]}}]},
    {"not": {"dependentRequired": {"a": ["b", "c"], "ab": ["a"]}}},
    {"dependentRequired": {"a": ["b"]}, "not": {"additionalProperties": {"const": 0}}, "maxProperties": 2},
    {"not": {"additionalProperties": {"const": 0}}},
    {"not": {"additionalProperties": {"const": 0}}, "maxProperties": 1},
    {"not": {"additionalProperties": {"const": 0}}, "required": ["a"], "maxProperties": 2, "minProperties": 2},
    {"maxProperties": 2, "if": {"patternProperties": {"b$": {"const": 1}}}, "then": {}, "else": {"maxProperties": 0}},
    {"properties": {"a": BIT, "b": BIT}, "additionalProperties": False,
     "not": {"patternProperties": {"^[ab]$": {"const": 0}}}},
    {"properties": {"a": BIT, "b": False, "c": {"allOf": [{"type": "string"}, {"type": "integer"}]}},
     "additionalProperties": False, "minProperties": 1},
    {"properties": {"a": BIT, "b": {"type": "object", "properties": {"c": {"$ref": "#/properties/b"}},
                                    "required": ["c"]}}, "additionalProperties": False, "minProperties": 1},
]  # fmt: skip
ARRAYS: list[dict[str, Any]] = [
    {"minItems": 2, "maxItems": 3},
    {"minItems": 2},
    {"maxItems": 1},
    {"maxItems": 0},
    {"prefixItems": [{"const": 1}, {"const": 0}], "minItems": 3, "maxItems": 4},
    {"prefixItems": [{"const": 1}, {"const": 0}], "minItems": 1, "maxItems": 1},
    {"prefixItems": [{"const": 1}, {"const": 0}], "items": False, "minItems": 1},
    {"contains": {"const": 1}, "minItems": 2},
    {"contains": {"const": 1}, "minContains": 2, "maxItems": 3},
    {"contains": {"const": 1}, "maxContains": 1, "minItems": 2},
    {"allOf": [{"contains": {"const": 1}}, {"contains": {"const": 0}}], "minItems": 3},
    {"uniqueItems": True, "minItems": 1},
    {"not": {"minItems": 2, "maxItems": 2}},
]
NESTED: list[dict[str, Any]] = [
    {"type": "array", "items": {"type": "array", "items": BIT, "maxItems": 1}, "minItems": 1, "maxItems": 2},
    {"type": "array", "items": {"type": "object", "additionalProperties": BIT, "minProperties": 1, "maxProperties": 1},
     "minItems": 1, "maxItems": 2},
    {"type": "object", "additionalProperties": {"type": "array", "items": BIT, "maxItems": 1}, "maxProperties": 2},
    {"type": "object", "additionalProperties": {"type": "object", "required": ["a"], "maxProperties": 1},
     "required": ["a"]},
]  # fmt: skip


def texts(alphabet: str, most: int) -> Iterator[str]:
    return ("".join(letters) for size in range(most + 1) for letters in product(alphabet, repeat=size))


@pytest.mark.parametrize("keywords", STRINGS, ids=json.dumps)
def test_strings_of_a_length(keywords: dict[str, Any]) -> None:
    schema = {"type": "string", **keywords}
    lowered = lower(schema)
    reader, judge = Reader(lowered.grammar), Validator(schema)
    assert {verdict.verdict for verdict in lowered.verdicts} == {"enforced"}
    for word in (*texts("ab", 7), *texts("ab\n", 4), *texts('aé"😀', 3)):
        document = json.dumps(word, ensure_ascii=False)
        assert reader.accepts(document) == judge.check(document).ok, document
    assert reader.accepts(lowered.shortest)
    assert dead_ends(lowered.grammar, 'ab"\\', 5) == []


def objects(values: list[Any], keys: tuple[str, ...], most: int) -> Iterator[dict[str, Any]]:
    for size in range(most + 1):
        for names in permutations(keys, size):
            yield from (dict(zip(names, chosen, strict=True)) for chosen in product(values, repeat=size))


def arrays(values: list[Any], most: int) -> Iterator[list[Any]]:
    return (list(chosen) for size in range(most + 1) for chosen in product(values, repeat=size))


def holds_what_the_judge_accepts(schema: dict[str, Any], documents: Iterable[Any]) -> None:
    lowered = lower(schema, conformance="spec")
    reader, judge = Reader(lowered.grammar), Validator(schema)
    assert {verdict.verdict for verdict in lowered.verdicts} <= {"enforced"}
    for document in documents:
        text = json.dumps(document, separators=(",", ":"))
        assert reader.accepts(text) == judge.check(text).ok, text
    assert reader.accepts(lowered.shortest)
    if not schema.get("uniqueItems"):  # what differs is looked ahead for: tests/grammar/matching/test_unique.py
        assert lost_walks(lowered.grammar, 'ab01":,{}[]\\', 60, 20) == []
    for text in REPEATS:
        assert not reader.accepts(text)


REPEATS = [
    '{"a":0,"a":1}', '{"b":0,"b":0}', '{"c":1,"\\u0063":1}', '{"ab":0,"a\\u0062":1}', '{"":0,"":0}',
    '{"a":0,"b":1,"a":0}', '[{"a":0,"a":1}]', '{"a":{"b":1,"b":1}}', '{"aa":1,"ab":1,"aa":1}',
]  # fmt: skip


@pytest.mark.parametrize("keywords", OBJECTS, ids=json.dumps)
def test_members_of_objects(keywords: dict[str, Any]) -> None:
    schema = {"type": "object", "additionalProperties": BIT, **keywords}
    holds_what_the_judge_accepts(schema, objects([0, 1], ("a", "b", "c", "ab", ""), 3))


@pytest.mark.parametrize("keywords", ARRAYS, ids=json.dumps)
def test_items_of_arrays(keywords: dict[str, Any]) -> None:
    holds_what_the_judge_accepts({"type": "array", "items": BIT, **keywords}, arrays([0, 1], 5))


@pytest.mark.parametrize("schema", NESTED, ids=json.dumps)
def test_containers_in_containers(schema: dict[str, Any]) -> None:
    inner = [0, [], [1], [0, 1], {}, {"a": 0}, {"b": 1}, {"a": 1, "b": 0}]
    holds_what_the_judge_accepts(schema, [*arrays(inner, 3), *objects(inner, ("a", "b", "c"), 3)])


@pytest.mark.parametrize("text", ["\\ud83d\\ude00", "\\u0061", "\\n", "\\/", "é", "😀"])
def test_an_escape_counts_once(text: str) -> None:
    reader = Reader(lower({"type": "string", "minLength": 2, "maxLength": 3}).grammar)
    assert [reader.accepts(f'"{text * times}"') for times in range(1, 5)] == [False, True, True, False]


def test_a_million_characters_are_no_more_than_one() -> None:
    few, many = (lower({"type": "string", "minLength": size, "maxLength": size}) for size in (7, 1_000_000))
    assert len(few.grammar.rules) == len(many.grammar.rules)
    assert many.min_bytes == 1_000_002


@pytest.mark.parametrize("keywords", STRINGS, ids=json.dumps)
def test_the_compiler_sees_the_strings_without_their_guards(keywords: dict[str, Any]) -> None:
    schema = {"type": "string", **keywords}
    grammar = lower(schema).grammar
    info = xgrammar.TokenizerInfo([*(chr(point) for point in range(0x20, 0x7F)), "\0"], stop_token_ids=[95])
    compiled = xgrammar.GrammarCompiler(info, cache_enabled=False).compile_grammar(grammar.to_ebnf())
    plain = Reader(grammar, guards=False)
    for word in texts("ab", 6):
        matcher = xgrammar.GrammarMatcher(compiled)
        seen = matcher.accept_string(f'"{word}"') and matcher.is_completed()
        assert seen == plain.accepts(f'"{word}"'), word
