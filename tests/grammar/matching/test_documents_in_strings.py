"""Strings that hold JSON documents: masks are exact at every level, and what is written is valid when decoded."""

# ruff: noqa: E501 - a schema a line reads best
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from engine.config import EngineConfig
from engine.grammar import GrammarService
from engine.request import Constraint
from tests.grammar import adversary
from tests.grammar.conftest import EXTRA
from tests.grammar.fakes import byte_tokenizer
from tests.grammar.matching.test_narrowing import check

TOKENS = [
    *EXTRA, b'\\"', b"\\\\", b'\\\\\\"', b'\\":', b'\\",', b'\\"}', b'a\\"', b'\\"a', b'{\\"', b'\\",\\"', b'\\"}"', b'}"}',
    b'\\\\\\",', b'1,\\"', b"\\u00", b"\\\\u", b"\\\\\\\\", b']}"', b'}\\"', b'"{\\"', b'a\\\\\\"', b'\\\\\\"}\\"}"', b"ab\\\\n",
]  # fmt: skip
"""Tokens that begin, end and cross from one level into another."""


def text_of(schema: Any) -> Any:
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}


def three(schema: Any) -> Any:
    """Three levels, with lengths and required keys on each."""
    inner = {"type": "object", "properties": {"l3": text_of(schema), "z": {"type": "string", "maxLength": 2}}}
    middle = {"type": "object", "properties": {"l2": text_of({**inner, "required": ["l3"]}),
                                               "y": {"type": "string", "minLength": 2}}}  # fmt: skip
    outer = {"type": "object", "properties": {"l1": text_of({**middle, "required": ["l2", "y"]})}}
    return {**outer, "required": ["l1"]}


PAIR = {"type": "object", "properties": {"n": {"type": "integer", "minimum": -5},
        "s": {"type": "string", "minLength": 1, "maxLength": 4}}, "required": ["n", "s"]}  # fmt: skip
BRANCHES = [{"type": "object", "properties": {"k": {"const": 1}, "a": {"type": "string", "maxLength": 2}}},
            {"type": "object", "properties": {"k": {"const": 2}, "b": {"type": "null"}}}]  # fmt: skip
FEW = {"^[ab]{1,3}$": {"type": ["null", "string"], "maxLength": 1}}
DECLARED: list[Any] = [
    {"type": "object", "properties": {"a": {"type": "null"}, "ab": {"type": "null"}}, "required": ["a"],
     "patternProperties": {"^b": {"type": "boolean"}}},
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}, "bb": {"type": "null"}}, "required": ["a", "bb"],
     "patternProperties": FEW, "additionalProperties": False, "maxProperties": 3},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "minProperties": 3,
     "patternProperties": {"^[ab]{1,2}$": {"type": "null"}}, "additionalProperties": False},
    {"type": "object", "properties": {"é": {"type": "null"}, "a\"b": {}}, "propertyNames": {"minLength": 1, "maxLength": 3},
     "additionalProperties": {"type": "null"}, "required": ["é"], "minProperties": 2},
    {"type": "object", "properties": {"aa": {"const": 1}}, "patternProperties": {"^a{1,3}$": {"type": "integer"}, "b$": {"type": "null"}},
     "dependentRequired": {"a": ["aa"]}, "additionalProperties": False, "minProperties": 1},
]  # fmt: skip
"""Declared keys that others begin like: guards are asked in the middle of tokens that hold no quote."""
SCHEMAS: dict[str, Any] = {
    "a length": text_of({"type": "string", "maxLength": 3}),
    "an exact length": text_of({"type": "string", "minLength": 2, "maxLength": 2}),
    "members": text_of({"type": "object", "properties": {"a": {"type": "string", "minLength": 2, "maxLength": 3},
                        "b": {"type": "integer"}}, "required": ["b"]}),
    "beside members": {"type": "object", "properties": {"x": text_of({"type": "array", "minItems": 2, "maxItems": 3,
                       "items": {"type": "string", "maxLength": 2}}), "ab": {"type": "null"}}, "required": ["x", "ab"]},
    "four levels": text_of(text_of({"type": "object", "properties": {"a": {"type": "string", "maxLength": 2}, "c": text_of(
                   text_of({"type": "array", "minItems": 1, "maxItems": 2, "items": {"enum": ["a", 1, "\n"]}}))},
                   "required": ["a", "c"]})),
    "three levels": three(PAIR),
    "keys that are not declared": text_of({"type": "object", "additionalProperties": {"type": "boolean"},
                                           "minProperties": 2, "maxProperties": 3}),
    "keys beside others": text_of({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["a"],
                                   "additionalProperties": {"pattern": "^[ab]+$"}, "minProperties": 2}),
    "few keys": text_of({"type": "object", "patternProperties": {"^[ab]$": {"type": "null"}}, "additionalProperties": False}),
    "declared keys beside patterns": text_of(DECLARED[0]),
    "an order beside patterns": text_of(text_of(DECLARED[1])),
    "few keys, three levels": three(DECLARED[2]),
    "keys with lengths": text_of(text_of(DECLARED[3])),
    "patterns that meet": three(DECLARED[4]),
    "or another string": {"anyOf": [text_of({"type": "integer"}), {"type": "string", "maxLength": 4}]},
    "two documents": {"anyOf": [text_of({"type": "string", "maxLength": 1}), text_of({"type": "string", "minLength": 3})]},
    "a pattern with repeats": text_of({"type": "string", "pattern": "^(ab{1,90}c){2,3}$"}),
    "a pattern with repeats beside": text_of({"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "string", "maxLength": 3},
                       "prefixItems": [{"type": "string", "pattern": "^(a{1,90}b){2,3}$"}]}),
    "a pattern of quotes": text_of({"type": "array", "maxItems": 2, "items": {"type": "string", "pattern": 'a"+\\\\b'}}),
    "sets of quotes": text_of({"type": "string", "pattern": '^["a][\\\\"b][^a]["\\\\]c$'}),
    "different items beside": {"type": "object", "properties": {"u": {"type": "array", "items": {"type": "integer"},
                               "uniqueItems": True}, "c": text_of({"maxLength": 2})}, "required": ["u", "c"]},
    "a choice": {"type": "array", "minItems": 1, "maxItems": 2, "items": text_of({"anyOf": [
        {**branch, "required": [*branch["properties"]]} for branch in BRANCHES]})},  # type: ignore[call-overload]
}  # fmt: skip
DEEP = [three(PAIR), three({"type": "string", "minLength": 2, "maxLength": 5}), text_of(text_of(text_of(PAIR))),
        three({"type": "object", "additionalProperties": {"type": "null"}, "minProperties": 2, "maxProperties": 3}),
        three({"type": "array", "items": {"anyOf": [PAIR, text_of({"enum": ["a", "b\n", 1]})]}, "maxItems": 3}),
        *map(three, DECLARED[1:3])]  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrammarService]:
    config = EngineConfig(cache_dir=tmp_path_factory.mktemp("cache"))
    made = GrammarService(byte_tokenizer(TOKENS), 258 + len(TOKENS), config=config)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("conformance", "whitespace"), [("tight", "compact"), ("spec", "compact"), ("tight", "flexible")]
)
@pytest.mark.parametrize("name", SCHEMAS)
def test_masks_are_exact_at_every_level(service: GrammarService, name: str, conformance: Any, whitespace: Any) -> None:
    constraint = Constraint.json_schema(SCHEMAS[name], conformance=conformance, whitespace=whitespace)
    grammar = service.compile(constraint)
    assert not [verdict for verdict in grammar.verdicts if verdict.verdict == "checked"]
    check(grammar, 4, 50)


def test_no_mask_within_follows_every_token_for_a_pattern(service: GrammarService) -> None:
    grammar = service.compile(Constraint.json_schema(SCHEMAS["a pattern with repeats beside"]))
    assert grammar.completions is not None
    assert grammar.completions.pushdown.holds_documents
    assert not grammar.completions.pushdown.spells_within


def test_adversarial_documents_are_valid_at_every_level(service: GrammarService) -> None:
    cases = [{"name": str(number), "schema": schema} for number, schema in enumerate(DEEP)]
    tally = adversary.run(service, cases, 60, seed=5)
    assert (tally.documents, tally.wrong, dict(tally.refused)) == (60, [], {})
    assert set(tally.statuses) == {"complete", "closed"}


def test_what_is_written_is_valid_when_each_level_is_decoded_by_itself(service: GrammarService) -> None:
    """By parsers that know nothing of strings that hold documents."""
    grammar, draw = service.compile(Constraint.json_schema(DEEP[0])), adversary.Adversary(service, 3)
    for _ in range(20):
        matcher, status = draw._write(grammar, grammar.min_tokens + 20, adversary.Tally())
        assert status in ("complete", "closed")
        text, schema = matcher.text(matcher.token_ids).decode(), DEEP[0]
        for key in ("l1", "l2", "l3", None):
            value = json.loads(text)
            assert jsonschema_rs.Draft202012Validator(schema).is_valid(value), text
            if key is not None:
                text, schema = value[key], schema["properties"][key]["contentSchema"]
