"""Pointers that meet no value of a schema, and those that might."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from engine.checks.reach import first_unmet

TREE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
    "patternProperties": {"^x-": {"type": "object", "properties": {"deep": True}}},
}
OPEN = {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "pointer", "closed", "open_"),
    [
        (TREE, "", True, True),
        (TREE, "/name", True, True),
        (TREE, "/nam", True, True),
        ({"type": "object", "properties": {"name": {}}}, "/nam", False, True),
        (TREE, "/name/x", False, False),
        (TREE, "/name/0", False, False),
        (TREE, "/kids/0/name", True, True),
        (TREE, "/kids/*/kids/*/name", True, True),
        (TREE, "/kids/name", False, False),
        (TREE, "/*", True, True),
        (TREE, "/x-a/deep/anything", True, True),
        (TREE, "/x-a/shallow", False, True),
        (TREE, "/x-a/deep", True, True),
        (OPEN, "/a/b/c", True, True),
        ({}, "/a/0", True, True),
        (True, "/a", True, True),
        (False, "", False, False),
        (False, "/a", False, False),
        ({"type": "string"}, "", True, True),
        ({"type": "string"}, "/a", False, False),
        ({"enum": [{"a": [1]}, 3]}, "/a/0", True, True),
        ({"enum": [{"a": [1]}, 3]}, "/b", False, False),
        ({"const": {"a": 1}}, "/*", True, True),
        ({"anyOf": [{"type": "integer"}, {"properties": {"a": {}}, "type": "object"}]}, "/a", True, True),
        ({"anyOf": [{"type": "integer"}, {"properties": {"a": {}}, "type": "object"}]}, "/b", False, True),
        ({"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {"type": "null"}}}]}, "/b", True, True),
        ({"type": "array", "items": {"type": "null"}}, "/0", True, True),
        ({"type": "array", "items": {"type": "null"}}, "/0/a", False, False),
        ({"type": "array", "items": {"type": "null"}}, "/a", False, False),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": False}, "/0", True, True),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": False}, "/1", False, False),
        ({"items": [{"type": "null"}], "additionalItems": {"type": "null"}}, "/7", True, True),
        ({"type": "array"}, "/0/a", True, True),
        ({"type": "object", "additionalProperties": {"type": "null"}}, "/any", True, True),
        ({"type": "object", "properties": {"a": {}}, "additionalProperties": False}, "/b", False, False),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}}}}, "/n/n/n", True, True),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}}}}, "/n/m", False, True),
        ({"$ref": "#a~1b", "$defs": {}}, "/a", True, True),
        ({"if": {"properties": {"a": {}}}, "then": {"properties": {"b": {}}}}, "/b", True, True),
    ],
)
def test_a_pointer_is_told_that_meets_nothing(schema: Any, pointer: str, closed: bool, open_: bool) -> None:
    for tight, met in ((True, closed), (False, open_)):
        assert first_unmet(json.dumps(schema), ("", pointer), closed=tight) == (
            None if met else "" if schema is False else pointer
        )


def test_a_schema_that_is_none_or_endless_is_left_to_whoever_compiles_it() -> None:
    for source in ('{"anyOf":3}', '{"$ref":"#/$ref"}', '{"enum":7}', "[" * 100_000):
        assert first_unmet(source, ("/a/b",), closed=True) is None
    wide = {"type": "object", "properties": {str(n): {"$ref": "#"} for n in range(300)}}
    source = json.dumps({**wide, "anyOf": [{"$ref": f"#/properties/{n}"} for n in range(300)]})
    began = time.process_time()
    assert first_unmet(source, tuple("/*" * (400 + n) for n in range(64)), closed=True) is None
    assert time.process_time() - began < 5
