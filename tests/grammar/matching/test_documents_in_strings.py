"""Strings that hold JSON documents: masks are exact at every level, and what is written is valid when decoded."""

# ruff: noqa: E501 - a schema a line reads best
from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from engine.config import EngineConfig
from engine.grammar import CompiledGrammar, GrammarService
from engine.grammar.endings.position import follow
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


def text_of(schema: Any, **beside: Any) -> Any:
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema, **beside}


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
    "a length and how it ends": text_of({"type": "string", "pattern": "^a*b$", "minLength": 5}),
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
SCHEMAS |= {
    "around a number": text_of({"type": "integer"}, minLength=3, maxLength=4),
    "around a constant": text_of({"const": 1}, minLength=4),
    "around items": text_of({"type": "array", "items": {"type": "integer"}, "minItems": 2}, maxLength=8),
    "around members": text_of({"type": "object", "properties": {"a": {"type": "string", "minLength": 2}, "b": {"type": "integer"}},
                      "required": ["b", "a"], "additionalProperties": {"type": "boolean"}, "minProperties": 3}, maxLength=30),
    "around anything": text_of({}, maxLength=5),
    "around a length": text_of({"type": "object", "properties": {"d": text_of({"type": "array", "items": {"type": "string"}, "minItems": 1},
                       maxLength=9)}, "required": ["d"]}, maxLength=30),
    "around other levels": text_of({"type": "array", "minItems": 1, "items": text_of({"type": "string"}, minLength=4, maxLength=6)}, minLength=5),
    "around constants": text_of({"enum": ["\u00e9\u00e9", "aaa", 12345]}, maxLength=4),
    "around a pattern": text_of({"type": "string", "pattern": "^(ab|c)*$"}, maxLength=6),
    "around repeats": text_of({"type": "string", "pattern": "^(ab{1,90}c){1,3}$"}, maxLength=9),
    "two lengths": {"type": "object", "properties": {"x": text_of({"type": "array", "items": {"type": "string"}}, minLength=3, maxLength=9),
                    "y": text_of({"type": "null"}, maxLength=6)}, "required": ["x", "y"]},
}  # fmt: skip
"""With lengths of the strings around documents."""
PLAIN = {"type": "array", "items": {"const": "a"}}
LENGTHS: list[tuple[Any, int, int, bytes]] = [
    ({}, 2, 3, b'"\\{}[],:0 '),
    ({"type": "integer"}, 2, 3, b'"01- '),
    ({"type": "array", "items": {"enum": ["a", [1, 0]]}, "minItems": 1}, 4, 9, b'"\\[],a01 '),
    ({"type": "array", "items": {"type": ["string", "array"]}, "minItems": 1}, 0, 6, b'"\\[],'),
    ({"type": "object", "properties": {"a": {"type": ["string", "integer"]}, "e": {"type": "integer"}}, "required": ["a"],
      "additionalProperties": False}, 0, 11, b'"\\{},:ae1'),
    ({"type": "object", "propertyNames": {"pattern": "^[ae]$"}, "additionalProperties": {"const": 1}, "minProperties": 2}, 0, 14, b'"\\{},:ae1'),
    ({"type": "object", "properties": {"a": {"const": 1}, "e": {"const": 0}}, "dependentRequired": {"a": ["e"]},
      "additionalProperties": False}, 0, 13, b'"\\{},:ae10'),
    (text_of(PLAIN, maxLength=5), 0, 9, b'"\\[],a'),
    ({"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]}, 0, 3, b'"\\nula'),
]  # fmt: skip
"""A document, the least and greatest length of the string, and the bytes that are tried."""
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


def written(grammar: CompiledGrammar, alphabet: bytes, high: int) -> tuple[set[bytes], set[bytes]]:
    """All whole texts out of these bytes whose string has at most so many characters, and all that began."""
    assert grammar.completions is not None
    whole, begun, pending = set[bytes](), set[bytes](), [(b"", grammar.completions.start)]
    while pending:
        text, at = pending.pop()
        begun.add(text)
        if at.place.completed:
            whole.add(text)
        onward = (
            (text + bytes((byte,)), follow(grammar.completions.pushdown, at, bytes((byte,)))) for byte in alphabet
        )
        pending += [(more, behind) for more, behind in onward if behind.place.stacks and behind.cursor.chars <= high]
    return whole, begun


@pytest.mark.parametrize("conformance", ["tight", "spec"])
@pytest.mark.parametrize("number", range(len(LENGTHS)))
def test_a_length_leaves_all_documents_that_fit_and_no_others(
    service: GrammarService, number: int, conformance: Any
) -> None:
    """Every text of the same grammar without the length, which is counted here; blanks as far as it is too short."""
    schema, low, high, alphabet = LENGTHS[number]
    free = service.compile(Constraint.json_schema(text_of(schema), conformance=conformance))
    bounded = text_of(schema, minLength=low, maxLength=high)
    grammar = service.compile(Constraint.json_schema(bounded, conformance=conformance))
    sizes = {text: len(json.loads(text)) for text in written(free, alphabet, high)[0]}
    fitting = {text[:-1] + b" " * (low - size) + b'"' for text, size in sizes.items()}
    whole, begun = written(grammar, alphabet, high)
    assert len(whole) > 1
    assert whole == fitting
    assert begun == {text[:end] for text in whole for end in range(len(text) + 1)}


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


def test_an_ending_that_fitted_still_fits_when_a_token_is_taken_back(service: GrammarService) -> None:
    """A search tries few of the many ways to go on; a loop that took one token too many needs the ending before it."""
    keys = {"patternProperties": {"^e": {"type": "string", "maxLength": 3}, "^x": {"type": "null"}}}
    inner = {"type": "object", "required": ["d"], "properties": {"d": text_of(PAIR)}, **keys}
    matcher = service.compile(Constraint.json_schema(three(inner), conformance="spec")).matcher()
    ending, lost, tried = matcher.shortest_ending(), list[bytes](), 0
    for at, token in enumerate(ending):
        legal = matcher.grammar.vocabulary.legal(matcher.unbanned())
        if any(other != token and matcher.accept(other, legal=True) for other, _ in legal):
            matcher.rollback(1)
            tried += 1
            lost += [] if matcher.ending(len(ending) - at) else [matcher.text(matcher.token_ids)]
        assert matcher.accept(token, legal=True)
    assert tried > 9
    assert not lost
