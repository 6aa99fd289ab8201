"""Schemas that strangers might send: crashers, bombs, contradictions, nonsense. Each with what must become of it.

`ok` means a document came out that the validator accepts; a name is the error type; several names joined by `|` mean that
the machine's speed, or how much the schema front end can hold, decides which; none of them is a crash.
"""

# ruff: noqa: E501 - a case a line reads best
from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

OK, INVALID, REFUSED, LIMIT, BUDGET = "ok", "SchemaInvalid", "SchemaRefused", "LimitExceeded", "BudgetTooSmall"
BAD_BODY = "Malformed"
"""Refused while the request is read: the schema is no JSON object or boolean."""


@dataclass(frozen=True)
class HostileSchema:
    name: str
    schema: Any
    expect: str


def obj(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def nest(depth: int, kind: str) -> Any:
    inner: Any = {"type": "null"}
    for _ in range(depth):
        if kind == "items":
            inner = {"type": "array", "items": inner, "maxItems": 1}
        elif kind == "properties":
            inner = {"type": "object", "properties": {"a": inner}}
        else:
            inner = {kind: [inner]}
    return inner


def chain(length: int) -> dict[str, Any]:
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(length)}
    return {"$defs": {**links, f"d{length}": {"type": "null"}}, "$ref": "#/$defs/d0"}


def doubling(depth: int, keyword: str) -> dict[str, Any]:
    links = {f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(depth)}
    return {"$defs": {**links, f"d{depth}": {"type": "null"}}, "$ref": "#/$defs/d0"}


def tree(width: int, depth: int) -> Any:
    if not depth:
        return {"type": "null"}
    return {"anyOf": [obj(**{f"k{i}": tree(width, depth - 1)}) for i in range(width)]}


STRING = {"type": "string"}

CRASHERS = [
    HostileSchema("a chain of 100 references", chain(100), OK),
    HostileSchema("a chain of 1,000 references", chain(1000), "LimitExceeded|ok"),
    HostileSchema("a chain of 12,000 references", chain(12_000), LIMIT),
    HostileSchema("a reference to itself", {"$ref": "#"}, "ok|SchemaRefused"),
    HostileSchema(
        "two references in a circle",
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        "ok|SchemaRefused",
    ),
    HostileSchema("anyOf with itself", {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "ok|SchemaRefused"),
    HostileSchema("allOf with itself", {"allOf": [{"$ref": "#"}], "type": "null"}, "ok|SchemaRefused"),
    HostileSchema("not itself", {"not": {"$ref": "#"}}, "ok|SchemaRefused|SchemaInvalid"),
    HostileSchema("array nesting of 100", nest(100, "items"), "ok|LimitExceeded"),
    HostileSchema("array nesting of 800", nest(800, "items"), "LimitExceeded|RequestError"),
    HostileSchema("object nesting of 60", nest(60, "properties"), OK),
    HostileSchema("object nesting of 400", nest(400, "properties"), "LimitExceeded|RequestError"),
    HostileSchema("anyOf nesting of 60", nest(60, "anyOf"), "ok|LimitExceeded"),
    HostileSchema("allOf nesting of 300", nest(300, "allOf"), "LimitExceeded|RequestError"),
    HostileSchema(
        "not nesting of 100",
        functools.reduce(lambda s, _: {"not": s}, range(100), {"type": "null"}),
        "ok|LimitExceeded|SchemaRefused",
    ),
    HostileSchema(
        "an endless document", {"type": "object", "properties": {"n": {"$ref": "#"}}, "required": ["n"]}, REFUSED
    ),
    HostileSchema("an endless array", {"type": "array", "items": {"$ref": "#"}, "minItems": 1}, REFUSED),
    HostileSchema(
        "a linked list",
        {"type": "object", "properties": {"n": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["n"]},
        OK,
    ),
]

BOMBS = [
    HostileSchema("a document of 2^40 parts", doubling(40, "prefixItems") | {"minItems": 2}, "ok|LimitExceeded"),
    HostileSchema("2^30 branches by reference", doubling(30, "anyOf"), "ok|LimitExceeded"),
    HostileSchema("2^30 conjunctions by reference", doubling(30, "allOf"), "ok|LimitExceeded"),
    HostileSchema("an anyOf tree of 8 by 4", tree(8, 4), "ok|LimitExceeded"),
    HostileSchema(
        "anyOf of 1,000 objects", {"anyOf": [obj(**{f"k{i}": STRING}) for i in range(1000)]}, "ok|LimitExceeded"
    ),
    HostileSchema(
        "oneOf of 300 overlapping objects",
        {"oneOf": [{"type": "object", "properties": {f"k{i}": STRING}} for i in range(300)]},
        "ok|LimitExceeded",
    ),
    HostileSchema(
        "a product of ten anyOfs",
        {
            "allOf": [
                {"anyOf": [{"type": "object", "properties": {f"p{i}": {"const": j}}} for j in range(6)]}
                for i in range(10)
            ]
        },
        "ok|LimitExceeded",
    ),
    HostileSchema("an enum of 10,000", {"enum": [f"value {i}" for i in range(10_000)]}, OK),
    HostileSchema("an enum of 60,000", {"enum": [f"value {i}" for i in range(60_000)]}, LIMIT),
    HostileSchema("a const of 200 kB", {"const": "x" * 200_000}, "BudgetTooSmall|LimitExceeded"),
    HostileSchema("a schema over a megabyte", {"description": "x" * 1_100_000}, LIMIT),
    HostileSchema("60,000 values", {"examples": list(range(60_000))}, LIMIT),
    HostileSchema(
        "2,000 optional properties",
        {"type": "object", "properties": {f"p{i}": STRING for i in range(2000)}},
        "ok|LimitExceeded",
    ),
    HostileSchema(
        "500 properties with minProperties",
        {"type": "object", "properties": {f"p{i}": STRING for i in range(500)}, "minProperties": 3},
        "ok|LimitExceeded",
    ),
    HostileSchema(
        "2,000 required properties",
        obj(**{f"p{i}": {"type": "null"} for i in range(2000)}),
        "BudgetTooSmall|LimitExceeded",
    ),
    HostileSchema(
        "200 pattern properties",
        {"type": "object", "patternProperties": {f"^a{i}[a-z]{{1,20}}$": STRING for i in range(200)}},
        "ok|LimitExceeded",
    ),
    HostileSchema("maxLength 10^5", {"type": "string", "maxLength": 100_000}, OK),
    HostileSchema("maxLength 10^9", {"type": "string", "maxLength": 10**9}, OK),
    HostileSchema(
        "minLength 10^5", {"type": "string", "minLength": 100_000}, "BudgetTooSmall|LimitExceeded|ok|Invalid"
    ),
    HostileSchema("minLength 10^9", {"type": "string", "minLength": 10**9}, "BudgetTooSmall|LimitExceeded|ok|Invalid"),
    HostileSchema("minItems 10^9", {"type": "array", "minItems": 10**9}, "BudgetTooSmall|LimitExceeded"),
    HostileSchema(
        "minItems 10,000",
        {"type": "array", "items": {"type": "null"}, "minItems": 10_000},
        "BudgetTooSmall|LimitExceeded",
    ),
    HostileSchema("maxItems 10^9", {"type": "array", "items": {"type": "null"}, "maxItems": 10**9}, "ok|LimitExceeded"),
    HostileSchema(
        "maxItems 100 three deep",
        {
            "type": "array",
            "maxItems": 100,
            "items": {"type": "array", "maxItems": 100, "items": {"type": "array", "maxItems": 100}},
        },
        "ok|LimitExceeded",
    ),
    HostileSchema(
        "minProperties 10^9",
        {"type": "object", "minProperties": 10**9},
        "BudgetTooSmall|LimitExceeded|SchemaRefused",
    ),
    HostileSchema(
        "contains a thousand times",
        {"type": "array", "contains": {"const": 1}, "minContains": 1000},
        "BudgetTooSmall|LimitExceeded|Invalid",
    ),
    HostileSchema("a property name of 50 kB", {"type": "object", "properties": {"k" * 50_000: {"type": "null"}}}, OK),
    HostileSchema(
        "multipleOf 10^-30",
        {"type": "number", "multipleOf": 1e-30},
        "ok|LimitExceeded|SchemaRefused|SchemaInvalid|Invalid",
    ),
    HostileSchema("multipleOf a large prime", {"type": "integer", "multipleOf": 1_000_003}, "ok|LimitExceeded"),
    HostileSchema(
        "an integer between 1 and 10^300", {"type": "integer", "minimum": 1, "maximum": 10**300}, "ok|LimitExceeded"
    ),
]

PATTERNS = [
    *[
        HostileSchema(f"pattern {pattern[:40]} of {len(pattern)}", {"type": "string", "pattern": pattern}, expect)
        for pattern, expect in [
            ("(a+)+$", OK),
            ("(a|a)*", OK),
            ("^(([a-z])+.)+[A-Z]([a-z])+$", "ok|LimitExceeded"),
            ("(a|b)*abb.{20}", "ok|LimitExceeded"),
            ("^.{1,10000}$", "ok|LimitExceeded"),
            ("^.{300}$", "ok|LimitExceeded|BudgetTooSmall"),
            ("^[a-z]{1,100000}$", "ok|LimitExceeded|Invalid"),
            ("((a{1,100}){1,100}){1,100}", "ok|LimitExceeded|SchemaInvalid"),
            ("^(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9])(?=.*[!@#]).{8,64}$", "ok|LimitExceeded"),
            ("^(?!.*foo).*$", "ok|LimitExceeded"),
            ("^(?:(?!admin).)*$", "ok|LimitExceeded|SchemaRefused"),
            (r"(.)\1", "SchemaRefused|SchemaInvalid|ok|Invalid"),
            (r"^\p{L}{1,50}$", "ok|LimitExceeded"),
            ("[", INVALID),
            ("(", INVALID),
            ("*a", INVALID),
            ("a{2,1}", "SchemaInvalid|SchemaRefused"),
            (r"\x", "ok|SchemaInvalid|Invalid"),
            ("[z-a]", INVALID),
            ("", OK),
            ("^$", OK),
            ("a^b", REFUSED),
            ("$a", "SchemaRefused|ok"),
            ('"', OK),
            (r"\\", OK),
            ("\n", OK),
            ("\x00", "ok|SchemaRefused|SchemaInvalid"),
            ("(" * 150 + "a" + ")" * 150, "ok|LimitExceeded|SchemaInvalid"),
            ("(" * 3000 + "a" + ")" * 3000, REFUSED),
            ("|" * 2000, "ok|LimitExceeded"),
            ("^(a?){40}a{40}$", "ok|LimitExceeded"),
            ("[\ud7ff-\ue000]", "ok|SchemaRefused"),
        ]
    ],
]

CONTRADICTIONS = [
    HostileSchema("false", False, REFUSED),
    HostileSchema("not anything", {"not": {}}, REFUSED),
    HostileSchema("not true", {"not": True}, REFUSED),
    HostileSchema("two types at once", {"allOf": [{"type": "string"}, {"type": "number"}]}, REFUSED),
    HostileSchema("const against type", {"type": "string", "const": 1}, REFUSED),
    HostileSchema("enum against type", {"type": "array", "enum": [1, "a"]}, REFUSED),
    HostileSchema("an empty enum", {"enum": []}, "SchemaRefused|SchemaInvalid"),
    HostileSchema("an empty anyOf", {"anyOf": []}, INVALID),
    HostileSchema("minimum over maximum", {"type": "integer", "minimum": 5, "maximum": 4}, REFUSED),
    HostileSchema("no integer between", {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, REFUSED),
    HostileSchema("no number between", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0}, REFUSED),
    HostileSchema(
        "a tiny interval",
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-300},
        "ok|SchemaRefused|LimitExceeded",
    ),
    HostileSchema("minLength over maxLength", {"type": "string", "minLength": 3, "maxLength": 2}, REFUSED),
    HostileSchema("minItems over maxItems", {"type": "array", "minItems": 3, "maxItems": 2}, REFUSED),
    HostileSchema(
        "a required property that is false", {"properties": {"a": False}, "required": ["a"], "type": "object"}, REFUSED
    ),
    HostileSchema("items false with minItems", {"type": "array", "items": False, "minItems": 1}, REFUSED),
    HostileSchema(
        "more members than a closed object holds",
        {"type": "object", "properties": {"a": {}}, "additionalProperties": False, "minProperties": 2},
        REFUSED,
    ),
    HostileSchema("pattern against length", {"type": "string", "pattern": "^a{5}$", "maxLength": 4}, REFUSED),
    HostileSchema("pattern against not", {"type": "string", "pattern": "^a$", "not": {"pattern": "a"}}, REFUSED),
    HostileSchema(
        "multipleOf against range", {"type": "integer", "multipleOf": 10, "minimum": 1, "maximum": 9}, REFUSED
    ),
    HostileSchema("oneOf twice the same", {"oneOf": [{"type": "null"}, {"type": "null"}]}, "SchemaRefused|Invalid"),
    HostileSchema("if, then false, else false", {"if": {"type": "null"}, "then": False, "else": False}, REFUSED),
    HostileSchema(
        "unique booleans, three of them",
        {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 3},
        "SchemaRefused|Invalid",
    ),
    HostileSchema(
        "contains what items forbid",
        {"type": "array", "items": {"type": "null"}, "contains": {"type": "string"}},
        "SchemaRefused|Invalid",
    ),
    HostileSchema(
        "propertyNames false with required", {"type": "object", "propertyNames": False, "required": ["a"]}, REFUSED
    ),
]

NONSENSE = [
    *[
        HostileSchema(f"{keyword} is {str(value)[:40]!r} ({type(value).__name__})", {keyword: value}, expect)
        for keyword, value, expect in [
            ("type", "strng", INVALID), ("type", 5, INVALID), ("type", [], "SchemaInvalid|SchemaRefused"), ("type", ["null", "null"], "SchemaInvalid|ok"),
            ("properties", [], INVALID), ("properties", {"a": 5}, INVALID), ("required", "a", INVALID), ("required", [1], INVALID),
            ("items", "x", INVALID), ("enum", "x", INVALID), ("minLength", -1, INVALID), ("minLength", 1.5, INVALID), ("minLength", "1", INVALID),
            ("maxItems", None, INVALID), ("pattern", 5, INVALID), ("multipleOf", 0, INVALID), ("multipleOf", -1, INVALID), ("anyOf", {}, INVALID),
            ("anyOf", [5], INVALID), ("$ref", 5, INVALID), ("$ref", "#/nowhere", "SchemaInvalid|SchemaRefused"), ("$ref", "#nowhere", "SchemaInvalid|SchemaRefused"),
            ("$ref", "http://127.0.0.1:1/schema.json", REFUSED), ("$ref", "file:///etc/passwd", REFUSED), ("$ref", "other.json", REFUSED),
            ("$ref", "#/%zz", "SchemaInvalid|SchemaRefused"), ("$id", "http://[", "ok|SchemaInvalid|SchemaRefused"), ("$schema", "http://unknown/", "ok|SchemaInvalid|SchemaRefused"),
            ("$schema", 7, "ok|SchemaInvalid"), ("format", "no-such-format", "ok|Invalid"), ("format", 5, INVALID), ("additionalProperties", "no", INVALID),
            ("patternProperties", {"[": {}}, INVALID), ("dependentRequired", {"a": "b"}, INVALID), ("const", "\x00", OK), ("const", "\ud83d", "RequestError"),
            ("enum", ["\udead"], "RequestError"), ("const", 10**400, "ok|SchemaRefused|SchemaInvalid"), ("const", 1e308, OK), ("const", "\u2028\"\\/", OK),
            ("minimum", 10**400, "ok|BudgetTooSmall"), ("maxLength", 2**70, "ok|SchemaInvalid"), ("x-unknown", {"type": 5}, OK),
            ("properties", {"": {"type": "null"}}, OK), ("properties", {"\x00\n\"\\": {"type": "null"}}, OK), ("properties", {"\ud800": {}}, "RequestError"),
            ("properties", {"__proto__": STRING, "constructor": STRING}, OK), ("title", "😀" * 1000, OK), ("unevaluatedProperties", False, OK),
        ]
    ],
    HostileSchema("an array", [], BAD_BODY),
    HostileSchema("a string", "object", BAD_BODY),
    HostileSchema("a number", 5, BAD_BODY),
    HostileSchema("true", True, OK),
    HostileSchema("empty", {}, OK),
]  # fmt: skip

ALL = [*CRASHERS, *BOMBS, *PATTERNS, *CONTRADICTIONS, *NONSENSE]
