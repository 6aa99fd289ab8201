"""The schemas of the adversarial runs: the six that ship, kinds that are hard to hold, and random ones by number."""

# ruff: noqa: E501 - a schema a line reads best
from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

SIX = sorted((Path(__file__).parents[2] / "schemas").glob("*.json"))
RANDOM = 40
PAIR = {"type": "object", "properties": {"k": {"type": "integer", "minimum": 0, "maximum": 1}}, "required": ["k"]}


def text_of(schema: Any, **beside: Any) -> Any:
    """Strings that hold a document of the schema."""
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema, **beside}


DEEP = {
    "type": "object",
    "properties": {"s": {"type": "string", "minLength": 1, "maxLength": 3}, "n": {"type": "integer"}},
    "required": ["s"],
}
HARD: list[Any] = [
    {"type": "array", "items": {**PAIR, "additionalProperties": False}, "uniqueItems": True, "minItems": 2, "maxItems": 3},
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 3},
    {"type": "array", "items": {"type": "string", "maxLength": 2}, "uniqueItems": True, "maxItems": 5},
    {"type": "array", "contains": {"const": 7}, "minContains": 2, "maxContains": 3, "items": {"type": "integer"}},
    {"type": "array", "prefixItems": [{"const": "a"}, {"type": "boolean"}], "items": {"type": "number"}, "maxItems": 4},
    {"type": "object", "patternProperties": {"^x": {"type": "integer"}, "y$": {"minimum": 3}}, "additionalProperties": False, "minProperties": 1},
    {"type": "object", "additionalProperties": {"type": ["null", "string"]}, "maxProperties": 3},
    {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "dependentRequired": {"a": ["b"]}, "minProperties": 1},
    {"type": "object", "properties": {"t": {"enum": ["i", "s"]}, "v": {}}, "required": ["t", "v"],
     "if": {"properties": {"t": {"const": "i"}}}, "then": {"properties": {"v": {"type": "integer"}}}, "else": {"properties": {"v": {"type": "string"}}}},
    {"oneOf": [{"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 5}]},
    {"not": {"type": ["object", "array"]}, "type": ["object", "string", "number", "null"]},
    {"anyOf": [{"type": "string", "pattern": "^[a-c]{2,5}$"}, {"type": "number", "exclusiveMinimum": 0, "maximum": 1.5}]},
    {"$defs": {"n": {"type": "object", "properties": {"v": {"type": "number"}, "n": {"$ref": "#/$defs/n"}}, "required": ["v"]}}, "$ref": "#/$defs/n"},
    {"type": "string", "minLength": 3, "maxLength": 9}, {"type": "string", "enum": ["é", "a\n", "日本", "\"q\""]},
    {"type": "object", "propertyNames": {"pattern": "^[a-z]{1,3}$"}, "additionalProperties": {"type": "boolean"}},
    {"type": "object", "properties": {"s": {"type": "string", "contentEncoding": "base64"}}, "required": ["s"]},
    {"type": "object", "properties": {"code": {"type": "string", "contentMediaType": "application/json"}}, "required": ["code"]},
    {"type": "object", "properties": {"d": text_of(DEEP), "e": {"anyOf": [{"type": "null"}, text_of({"enum": ["é\n", 1]})]}}, "required": ["d", "e"]},
    text_of({"type": "object", "properties": {"d": text_of({"type": "array", "items": {"type": "string", "maxLength": 2}, "minItems": 1})}, "required": ["d"]}),
    text_of({"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "minItems": 2}, maxLength=20),
    {"oneOf": [text_of({"type": "integer"}), text_of({"minimum": 3}), {"type": "array", "items": text_of({"type": "null"}), "maxItems": 2}]},
    {}, True,
]  # fmt: skip

LETTERS = {"type": ["null", "string"], "maxLength": 1}
INNERMOST: list[Any] = [
    {"type": "object", "properties": {"a": {"type": "string", "minLength": 1, "maxLength": 2}, "bb": {"type": "null"}}, "required": ["a", "bb"],
     "patternProperties": {"^[ab]{1,3}$": LETTERS}, "additionalProperties": False, "maxProperties": 3},
    {"type": "object", "properties": {"ab": {"type": "integer"}, "b": {}}, "required": ["ab"], "patternProperties": {"^a": {"type": ["integer", "null"]}},
     "minProperties": 2, "maxProperties": 3},
    {"type": "object", "patternProperties": {"^[ab]{1,2}$": {"type": "null"}}, "additionalProperties": False, "minProperties": 3},
    {"type": "object", "properties": {"é": LETTERS}, "propertyNames": {"minLength": 1, "maxLength": 2}, "additionalProperties": LETTERS, "required": ["é"], "minProperties": 2},
    {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "integer"}}, "required": ["k"], "patternProperties": {"^k.$": {"type": "boolean"}}},
     "minItems": 1, "maxItems": 2},
    {"type": "object", "properties": {"aa": {"const": 1}}, "patternProperties": {"^a{1,3}$": {"type": "integer"}, "b$": {"type": "null"}}, "dependentRequired": {"a": ["aa"]},
     "additionalProperties": False, "minProperties": 1},
]  # fmt: skip


def _level(inner: Any, number: int) -> Any:
    """An object with lengths, required keys and patterns of keys, one of whose members holds a document."""
    more = [{"patternProperties": {"^e": {"type": "string", "maxLength": 3}, "^x": {"type": "null"}}},
            {"properties": {"dd": {"type": "string", "minLength": 2}}, "required": ["d", "dd"]},
            {"patternProperties": {"^[ex]{1,2}$": {"type": "string"}}, "additionalProperties": False, "maxProperties": 2}][number % 3]  # fmt: skip
    base = {"type": "object", "required": ["d"], **more}
    return {**base, "properties": {"d": text_of(inner), **more.get("properties", {})}}


@cache
def schemas_in_strings() -> list[str]:
    """Three levels of documents in strings, with lengths, required keys and patterns of keys on each."""
    made = [
        _level(_level(_level(inner, one), two), one + two)
        for inner in INNERMOST
        for one in range(3)
        for two in range(3)
    ]
    return [json.dumps(schema) for schema in made]


@cache
def schemas() -> list[str]:
    """Sources, in a fixed order."""
    made = [_schema(random.Random(number), 3) for number in range(RANDOM)]
    return [path.read_text(encoding="utf-8") for path in SIX] + [json.dumps(schema) for schema in HARD + made]


def _schema(draw: random.Random, depth: int) -> Any:
    kind = draw.choice(["object", "object", "array", "any", "one", "leaf"] if depth else ["leaf"])
    if kind == "object":
        names = draw.sample(["a", "name", "ключ", 'q"q', "x y", "aa"], draw.randint(1, 3))
        members = {name: _schema(draw, depth - 1) for name in names}
        needed = [name for name in names if draw.random() < 0.6]
        closed = draw.choice([{}, {"additionalProperties": False}, {"minProperties": 1, "maxProperties": 4}])
        return {"type": "object", "properties": members, "required": needed, **closed}
    if kind == "array":
        more = draw.choice([{}, {"minItems": 1, "maxItems": 3}, {"uniqueItems": True, "maxItems": 4}])
        return {"type": "array", "items": _schema(draw, depth - 1), **more}
    if kind in ("any", "one"):
        return {f"{kind}Of": [_schema(draw, depth - 1) for _ in range(2)]}
    return draw.choice(
        [
            {"type": "string", "maxLength": draw.randint(1, 5)},
            {"type": "string", "pattern": "^[a-z_]+$"},
            {"type": "integer", "minimum": -3, "maximum": 250},
            {"type": "number", "multipleOf": 0.5},
            {"enum": ["a", 1, None, "é\n", {"k": [1]}]},
            {"const": {"k": [1, 2]}},
            {"type": ["boolean", "null"]},
        ]
    )
