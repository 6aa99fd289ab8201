"""Keys beside declared ones: every text and every mask, against a validator and the list of all short keys."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from engine.config import Limits
from engine.grammar.compile.compiler import Compiler
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint
from engine.schema.reading.validator import Validator
from tests.grammar.fakes import byte_tokenizer
from tests.grammar.matching.test_narrowing import check

EXTRA = [
    *(b'":', b'":1', b'":"', b'"a', b'"a":', b'"b":1,', b',"a":', b'{"', b'{"a', b'{"a":1', b'{"":', b'1,"', b"1}"),
    *(b'","', b"ab", b'b"', b'ab"', b'ab":', b'b":1,"', b"\\u0061", b"\\u00", b"61b", b"u0061", b'\\"', b'\\":'),
    *(b'\\"":', b'"\n', b'" :', "é".encode(), 'é":'.encode(), b"\x01", b'"\x01:', b"\x01:", b'{"\\ud83d\\ude00'),
    *(b'":":', b'":":1', b'\\ude00":', b"\\ud83d", b"k1", b'k10":', b'0":'),
]
"""Tokens that begin, end or hold keys, cut anywhere, and with the byte that marks keys for the compiler."""
ONE = {"const": 1}
TWO = {"const": 2}
SCHEMAS: dict[str, Any] = {
    "one name": {"properties": {"a": ONE}, "additionalProperties": TWO},
    "prefixes of each other": {"properties": {"a": ONE, "ab": ONE, "abb": ONE, "b": ONE}, "additionalProperties": TWO},
    "the empty name": {"properties": {"": ONE, "a": ONE}, "additionalProperties": TWO},
    "escaped names": {"properties": {'"': ONE, "\\": ONE, "\n": ONE, "a\"b": ONE}, "additionalProperties": TWO},
    "names beyond ASCII": {"properties": {"é": ONE, "😀": ONE, "éa": ONE}, "additionalProperties": TWO},
    "required": {"properties": {"a": ONE, "ab": ONE}, "required": ["a", "zz"], "additionalProperties": TWO},
    "forbidden names": {"properties": {"a": False, "b": ONE}, "additionalProperties": TWO},
    "same values": {"properties": {"a": {}}, "maxProperties": 2},
    "short keys": {"properties": {"a": ONE, "é": ONE}, "propertyNames": {"maxLength": 1}, "additionalProperties": TWO},
    "keys of one set": {"properties": {"a": ONE, "ab": ONE}, "propertyNames": {"pattern": "^[ab]*$"},
                        "additionalProperties": TWO},
    "keys of one short set": {"properties": {"a": ONE, "ab": ONE}, "propertyNames": {"pattern": "^[ab]{1,2}$"},
                              "additionalProperties": TWO},
    "patterns": {"properties": {"a": ONE, "ab": {}}, "additionalProperties": TWO,
                 "patternProperties": {"^a": {"enum": [1, 3]}, "b$": {"enum": [1, 2]}}},
    "closed patterns": {"properties": {"a": ONE}, "patternProperties": {"^a": TWO}, "additionalProperties": False},
    "not required": {"properties": {"a": ONE}, "not": {"required": ["b"]}, "additionalProperties": {"enum": [1, 2]}},
    "one of two": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "additionalProperties": {"enum": [1, 2]}},
    "shapes that differ": {"anyOf": [{"properties": {"a": ONE}, "required": ["b"]}, {"properties": {"b": TWO}}],
                           "additionalProperties": {"enum": [1, 2]}},
    "shapes with patterns": {"anyOf": [{"properties": {"a": ONE}, "patternProperties": {"^b": ONE}, "minProperties": 2},
                                       {"properties": {"ab": TWO}, "propertyNames": {"pattern": "^a"}}],
                             "additionalProperties": {"enum": [1, 2]}},
    "inside one another": {"properties": {"a": {"properties": {"a": ONE}, "additionalProperties": TWO}},
                           "additionalProperties": {"properties": {"b": ONE}, "additionalProperties": TWO}},
    "either inside": {"anyOf": [{"properties": {"a": {"properties": {"a": ONE}}}, "required": ["a", "b"]},
                                {"properties": {"a": {"properties": {"b": TWO}}}, "required": ["a"]}]},
    "some key": {"not": {"additionalProperties": ONE}, "properties": {"a": {}}, "maxProperties": 2},
    "many optional": {"properties": {f"k{n}": ONE for n in range(300)}, "additionalProperties": TWO},
    "many required": {"properties": {f"k{n}": ONE for n in range(60)}, "required": [f"k{n}" for n in range(60)]},
}  # fmt: skip
KEYS = ["", "a", "b", "ab", "abb", "ba", '"', "\\", "\n", 'a"b', "é", "éa", "ée", "😀", "zz", "k1", "k300"]


@pytest.fixture(scope="module")
def made() -> Any:
    vocabulary = Vocabulary.of(byte_tokenizer(EXTRA), 258 + len(EXTRA))
    compiler = Compiler(vocabulary.info, Limits())

    def make(schema: Any, conformance: Any = "spec", whitespace: Any = "compact") -> CompiledGrammar:
        constraint = Constraint.json_schema(
            {"type": "object", **schema}, conformance=conformance, whitespace=whitespace
        )
        return CompiledGrammar(constraint, repr(constraint), compiler.compile(constraint), vocabulary)

    return make


@pytest.mark.parametrize("whitespace", ["compact", "flexible"])
@pytest.mark.parametrize("conformance", ["tight", "spec"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_masks_are_exact(made: Any, name: str, conformance: Any, whitespace: Any) -> None:
    many = name == "many required"
    assert check(made(SCHEMAS[name], conformance, whitespace), 1 if many else 8, 3_000 if many else 100)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_grammar_takes_what_a_validator_takes(made: Any, name: str) -> None:
    grammar = made(SCHEMAS[name])
    judge = Validator({"type": "object", **SCHEMAS[name]})
    values: list[Any] = [1, 2, 3, {"a": 1}, {"b": 1}, {"a": 2}, {"b": 2, "a": 1}] if "inside" in name else [1, 2, 3]
    members = [{key: value} for key, value in itertools.product(KEYS, values)]
    some = [member for member in members if next(iter(member)) in ("a", "b", "ab", "zz")]
    found = 0
    for document in ({}, *members, *({**first, **second} for first in some for second in members)):
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        assert grammar.accepts(text.encode()) == judge.check(text).ok, text
        found += grammar.accepts(text.encode())
    assert found or "required" in SCHEMAS[name]


@pytest.mark.parametrize(
    "key",
    [
        "a",
        "\\u0061",
        "\\u0061b",
        "a\\u0062",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\uD83D\\uDE00",
        "\\/",
        "/",
        "\\n",
        "\\u000a",
    ],
)
def test_a_key_is_what_it_spells(made: Any, key: str) -> None:
    names = ["a", "ab", "é", "😀", "/", "\n"]
    grammar = made({"properties": dict.fromkeys(names, ONE), "additionalProperties": TWO})
    canonical = json.dumps(json.loads(f'"{key}"'), ensure_ascii=False) == f'"{key}"'
    assert not grammar.accepts(f'{{"{key}":2}}'.encode())
    assert grammar.accepts(f'{{"{key}":1}}'.encode()) is canonical
    assert grammar.accepts(f'{{"{key}x":2}}'.encode())
    assert not grammar.accepts(f'{{"{key}x":2,"{key}x":2}}'.encode())


def test_an_ending_writes_a_key_that_is_not_declared(made: Any) -> None:
    grammar = made({"properties": {"": False, "a": False, "aa": False}, "minProperties": 2})
    matcher = grammar.matcher()
    text = matcher.text(matcher.shortest_ending())
    assert len(json.loads(text)) == 2
    for begun in ('{"', '{"a', '{"aa'):
        matcher = grammar.matcher()
        assert all(matcher.accept(byte) for byte in begun.encode())
        text = begun.encode() + matcher.text(matcher.shortest_ending())
        assert len(json.loads(text)) == 2
        assert Validator({"properties": {"": False, "a": False, "aa": False}}).check(text.decode()).ok


@pytest.mark.parametrize(("text", "right"), [("-a\x01c", True), ("-axcayc", True), ("-ac", False), ("-axcac", False)])
def test_a_callers_own_grammar_may_write_what_marks_keys_elsewhere(text: str, right: bool) -> None:
    vocabulary = Vocabulary.of(byte_tokenizer(), 258)
    constraint = Constraint.ebnf('root ::= (root | "-") "a" [^c] "c"')  # left recursion: our tables lose the way
    compiled = Compiler(vocabulary.info, Limits()).compile(constraint)
    matcher = CompiledGrammar(constraint, "", compiled, vocabulary).matcher()
    assert (all(matcher.accept(byte) for byte in text.encode()) and matcher.completed) is right
