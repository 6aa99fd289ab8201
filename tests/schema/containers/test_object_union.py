"""Objects in several shapes: one way through what they share, and exactly the documents that the schema allows."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

import pytest

from engine.schema import lower
from engine.schema.reading.validator import Validator
from tests.schema.matching import Language, compact

A, B = {"type": "object", "required": ["a"]}, {"type": "object", "required": ["b"]}
ONE = {"const": 1}
NULL = {"b": {"type": "null"}}
SCHEMAS: dict[str, Any] = {
    "overlapping branches": {"anyOf": [A, B]},
    "values that tell": {
        "anyOf": [
            {"properties": {"k": {"const": 1}, "a": {"type": "null"}}, "required": ["k", "a"]},
            {"properties": {"k": {"const": "x"}}, "required": ["k", "b"], "additionalProperties": {"type": "null"}},
            {"properties": {"k": {"enum": [1, "x"]}, "b": {"const": 1}}, "additionalProperties": False},
        ]
    },
    "dependencies": {"dependentRequired": {"a": ["b"], "k": ["a", "c"]}},
    "counts": {"anyOf": [{"required": ["a"], "maxProperties": 2}, {"required": ["b", "c"]}, {"maxProperties": 0}]},
    "a condition": {"if": {"properties": {"k": ONE}, "required": ["k"]}, "then": A, "else": {"required": ["c"]}},
    "exactly one": {"oneOf": [A, B, {"properties": {"k": {"const": 1}}, "required": ["k", "c"]}]},
    "one of a kind": {"oneOf": [{"properties": {"k": ONE}, **A}, {"properties": {"k": {"const": "x"}}, **B}]},
    "told apart by what stands beside": {
        "required": ["k"],
        "allOf": [{"oneOf": [{"properties": {"k": ONE, **NULL}}, {"properties": {"k": {"const": "x"}}}]}],
    },
    "told apart but for one key": {
        "required": ["a"],
        "oneOf": [{"properties": {"k": ONE, **NULL}}, {"properties": {"k": {"const": "x"}}}],
    },
    "with needs": {"anyOf": [A, B, {"not": {"additionalProperties": {"type": "null"}}}]},
}  # fmt: skip
VALUES = (None, 1, "x")


def documents(seed: str) -> list[dict[str, Any]]:
    """Objects of up to four of the keys in random order."""
    generator = random.Random(seed)
    found: list[dict[str, Any]] = [{}, *({k: v} for k, v in product("abck", VALUES))]
    for _ in range(60):
        keys = generator.sample("abcdk", k=generator.randint(2, 4))
        found.append({key: generator.choice(VALUES) for key in keys})
    return found


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_union_holds_what_the_schema_allows(name: str) -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", **SCHEMAS[name]}
    lowered = lower(schema, conformance="spec")
    assert not [v for v in lowered.verdicts if v.verdict == "checked"]
    language, validator = Language(lowered.grammar), Validator(schema)
    verdicts = set()
    for document in documents(name):
        valid = validator.check(compact(document).encode()).ok
        verdicts.add(valid)
        assert language.accepts(document) == valid, document
    assert verdicts == {False, True}


def test_shapes_that_share_members_are_entered_by_one_rule() -> None:
    properties = {key: {"type": "null"} for key in "abcdefgh"}
    schema = {"type": "object", "properties": properties, "dependentRequired": {"a": ["b"], "c": ["d"], "e": ["f"]}}
    grammar = lower({**schema, "additionalProperties": False}, conformance="spec").grammar
    assert grammar.to_ebnf().count('"{"') == 1
