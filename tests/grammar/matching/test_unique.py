"""Items that must differ: masks hold exactly what leads to a valid document, against the judge on all documents."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

from engine.config import Limits
from engine.grammar.compile.compiler import Compiler
from engine.grammar.compiled_grammar import CompiledGrammar
from engine.grammar.masks.bitmask import legal, words
from engine.grammar.vocabulary.vocabulary import Vocabulary
from engine.request import Constraint
from engine.schema.reading.validator import Validator
from tests.grammar.fakes import byte_tokenizer

EXTRA = [
    b'"a', b'a"', b'a",', b'","', b'["', b'"]', b'"a"', b',"a"', b"1,", b"1]", b"0,1", b"10", b"1.0", b"],", b"[1",
    b",1",
    b"aa", b'a","a', b'a","b', b'"a","a"', b"true", b"true,", b"null", b'{"', b'"}', b"},", b'":', b'":1', b"1}", b"}]",
    b'},{"', b",[", b"],[", b"[[", b"]]", b'b"', b"[]", b"{}", b"e0", b".0",
]  # fmt: skip
Make = Callable[..., CompiledGrammar]


@pytest.fixture(scope="module")
def made() -> Make:
    vocabulary = Vocabulary.of(byte_tokenizer(EXTRA), 258 + len(EXTRA))
    compiler = Compiler(vocabulary.info, Limits())

    def make(schema: dict[str, Any], conformance: str = "spec", whitespace: str = "compact") -> CompiledGrammar:
        constraint = Constraint.json_schema(schema, conformance=conformance, whitespace=whitespace)  # type: ignore[arg-type]
        return CompiledGrammar(constraint, json.dumps(schema), compiler.compile(constraint), vocabulary)

    return make


def tuples(values: Iterable[Any], most: int) -> Iterator[list[Any]]:
    known = list(values)
    return (list(chosen) for size in range(most + 1) for chosen in product(known, repeat=size))


def orders(value: Any) -> Iterator[str]:
    """The texts of a value, its keys in any order."""
    if isinstance(value, list):
        for parts in product(*(list(orders(part)) for part in value)):
            yield f"[{','.join(parts)}]"
    elif isinstance(value, dict):
        for keys in permutations(value):
            for parts in product(*(list(orders(value[key])) for key in keys)):
                yield "{" + ",".join(f"{json.dumps(key)}:{part}" for key, part in zip(keys, parts, strict=True)) + "}"
    else:
        yield json.dumps(value)


TAIL = {"type": "array", "uniqueItems": True}
PAIR = {"type": "object", "properties": {"a": {"enum": ["a", "b"]}, "b": {"type": "boolean"}}, "required": ["a"],
        "additionalProperties": False}  # fmt: skip
WORDS = ["a", "aa", "ab", "b", ""]
FINITE: list[tuple[dict[str, Any], list[Any], int]] = [
    ({"items": {"enum": WORDS}}, WORDS, 5),
    ({"items": {"enum": WORDS}, "minItems": 4}, WORDS, 5),
    ({"items": {"enum": ["a", "b"]}, "minItems": 1}, WORDS, 3),
    ({"items": {"type": "string", "pattern": "^a?[ab]$", "maxLength": 2}}, ["a", "b", "aa", "ab", "ba", "bb"], 6),
    ({"items": {"enum": [None, True, False]}, "maxItems": 2}, [None, True, False], 4),
    ({"prefixItems": [{"enum": ["a", "b"]}, {"enum": ["a"]}], "items": {"enum": WORDS}, "minItems": 2}, WORDS, 5),
    ({"prefixItems": [{"enum": ["a", "b"]}, {"enum": ["a", "aa"]}, {"enum": ["a", "b"]}], "items": False,
      "minItems": 3}, WORDS, 3),
    ({"items": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 1}},
     [[], ["a"], ["b"], ["aa"]], 4),
    ({"items": {**TAIL, "items": {"enum": ["a", "b"]}}, "minItems": 2, "maxItems": 2},
     [[], ["a"], ["b"], ["a", "b"], ["b", "a"], ["a", "a"]], 3),
    ({"items": PAIR, "maxItems": 2},
     [{"a": "a"}, {"a": "b"}, {"a": "a", "b": True}, {"a": "b", "b": False}, {"a": "a", "b": False},
      {"a": "b", "b": True}], 2),
    ({"items": {"type": "object", "properties": {"a": {"const": "a"}, "b": {"enum": ["a"]}}, "minProperties": 1,
                "additionalProperties": False}, "minItems": 3},
     [{"a": "a"}, {"b": "a"}, {"a": "a", "b": "a"}], 4),
    ({"contains": {"const": "a"}, "items": {"enum": ["a", "b", "aa"]}}, ["a", "b", "aa"], 4),
]  # fmt: skip


@pytest.mark.parametrize(("keywords", "values", "most"), FINITE, ids=[json.dumps(row[0]) for row in FINITE])
def test_masks_are_exact_where_the_documents_are_finite(
    made: Make, keywords: dict[str, Any], values: list[Any], most: int
) -> None:
    schema = {**TAIL, **keywords}
    judge = Validator(schema)
    valid = [value for value in tuples(values, most) if judge.check(json.dumps(value)).ok]
    follows(made(schema), {text for value in valid for text in orders(value)})


@pytest.mark.parametrize("top", [1, 3, 11])
def test_integers_are_told_by_their_value(made: Make, top: int) -> None:
    schema = {**TAIL, "items": {"type": "integer", "minimum": 0, "maximum": top}, "minItems": 1, "maxItems": 3}
    valid = [value for size in (1, 2, 3) for value in permutations(range(top + 1), size)]
    follows(made(schema, "tight"), {json.dumps(value, separators=(",", ":")) for value in valid})


def follows(grammar: CompiledGrammar, documents: set[str], walks: int = 25) -> None:
    """Random walks: each mask holds exactly the tokens on the way to some document, and endings end."""
    assert {verdict.verdict for verdict in grammar.verdicts} <= {"enforced"}
    whole = {document.encode() for document in documents}
    beginnings = {text[:end] for text in whole for end in range(len(text) + 1)}
    texts = grammar.vocabulary.texts
    chance = random.Random(5)
    row = np.zeros((1, words(len(texts))), dtype=np.int32)
    for _ in range(walks):
        matcher, written = grammar.matcher(), b""
        while True:
            matcher.fill(row, 0)
            expected = {t for t, text in enumerate(texts) if text and written + text in beginnings}
            expected |= {256} if written in whole else set()
            found = {token for token in range(len(texts)) if legal(row[0], token)}
            assert found == expected, (written, [texts[t] for t in found ^ expected])
            ending = matcher.shortest_ending()
            assert written + matcher.text(ending) in whole, (written, matcher.text(ending))
            for wrong in chance.sample(sorted(set(range(256)) - found), 3):
                assert not matcher.fork().accept(wrong)
            token = chance.choice(sorted(found))
            assert matcher.accept(token)
            if token == 256:
                break
            written += texts[token] or b""


ENDLESS: list[dict[str, Any]] = [
    {"items": {"type": "string", "pattern": "^[ab]*$"}, "minItems": 3},
    {"items": {"type": "string", "maxLength": 1}, "minItems": 2},
    {"items": {"type": "string", "pattern": "^[ab\\n\"é]*$", "maxLength": 2}, "minItems": 2},
    {"items": {"type": "integer", "minimum": 0, "maximum": 4}, "minItems": 2},
    {"items": {"type": "integer"}},
    {"items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 2},
    {"items": {"enum": [1, 1.0, 2, "1", True, None, -0.0, 0]}},
    {"items": {"type": "object", "additionalProperties": {"enum": [0, 1]}, "propertyNames": {"maxLength": 1}}},
    {"items": {"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"enum": ["a", "b"]}},
               "required": ["a", "b"], "additionalProperties": False}, "minItems": 2},
    {"items": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2}, "maxItems": 2}},
    {"items": {"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": 1}]}, "minItems": 2},
    {},
]  # fmt: skip


@pytest.mark.parametrize("whitespace", ["compact", "flexible"])
@pytest.mark.parametrize("keywords", ENDLESS, ids=json.dumps)
def test_walks_end_in_valid_documents_and_find_a_way_on(made: Make, keywords: dict[str, Any], whitespace: str) -> None:
    schema = {**TAIL, **keywords}
    grammar, judge, chance = made(schema, "spec", whitespace), Validator(schema), random.Random(3)
    assert {verdict.verdict for verdict in grammar.verdicts} <= {"enforced"}
    row = np.zeros((1, words(len(grammar.vocabulary.texts))), dtype=np.int32)
    refused = 0
    for number in range(12):
        matcher = grammar.matcher()
        for _ in range(30):
            assert matcher.fill(row, 0), matcher.text(matcher.token_ids)
            found = [token for token in range(len(grammar.vocabulary.texts)) if legal(row[0], token)]
            if 256 in found and chance.random() < 0.2:
                break
            plain = [token for token in found if grammar.vocabulary.texts[token] in PLAIN]
            token = chance.choice(plain if plain and number % 4 else found)
            refused += b"," in (grammar.vocabulary.texts[token] or b"")
            assert matcher.accept(token)
            if matcher.terminated:
                break
        text = matcher.text((*matcher.token_ids, *matcher.shortest_ending()))
        assert judge.check(text.decode()).ok, text
    assert refused


PLAIN = {bytes([c]) for c in b'ab01",[]{}:'} | set(EXTRA)


def test_values_are_compared_as_json_schema_does(made: Make) -> None:
    schema = {**TAIL, "items": {"type": ["number", "string", "boolean", "object", "array"]}}
    grammar, judge = made(schema), Validator(schema)
    texts = [
        "[1,1.0]", "[1,1e0]", "[10,1e1]", "[0,-0]", "[0.5,0.50]", "[1,true]", "[0,false]", '["a","\\u0061"]', '["1",1]',
        '[{"a":1,"b":2},{"b":2,"a":1}]', '[{"a":1},{"a":1.0}]', "[[1],[1.0]]", "[[1],[1,1]]", "[1,11,111]", "[[],{}]",
        '["","\\n"]', '["\\n","\\u000a"]', "[1,2,1]", "[-1,1]", "[1e2,100.0]", '["a","b","a"]', "[[],[]]", "[{},{}]",
    ]  # fmt: skip
    for text in texts:
        matcher = grammar.matcher()
        accepted = all(matcher.accept(byte) for byte in text.encode()) and matcher.completed
        assert accepted == judge.check(text).ok, text


@pytest.mark.parametrize(
    "text",
    ['[":؁",":؁', '["a\\n","a\\n', '["a\\n","a\\u000a', '["aA","\\u0061\\u0041',
     '["a😀","a😀', '["a😀","a\\ud83d\\ude00'],
    ids=ascii,
)  # fmt: skip
def test_a_mask_within_a_character_knows_what_it_can_become(made: Make, text: str) -> None:
    matcher = made({**TAIL, "items": {"type": "string", "maxLength": 2}}).matcher()
    texts = matcher.grammar.vocabulary.texts
    row = np.zeros((1, words(len(texts))), dtype=np.int32)
    for byte in text.encode():
        matcher.fill(row, 0)
        offered = {token for token in range(len(texts)) if legal(row[0], token)}
        assert offered == {token for token in range(len(texts)) if matcher.fork().accept(token)}, matcher.token_ids
        if not matcher.accept(byte):
            break
    else:
        pytest.fail("the item before was written again")
