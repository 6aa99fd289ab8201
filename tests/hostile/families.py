"""300 families of JSON Schemas that grow by one number, each a way of asking for more work than its text shows.

`families()` is deterministic. A family is a context (where the growing part stands) around a growth (what grows), its
references spelled in one of the ways that JSON Schema allows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
Spelling = Callable[[str], tuple[str, Schema]]
"""From a name to the reference and what the definition needs for it."""
COUNT = 300


@dataclass(frozen=True)
class Family:
    """`at(n)` is the member of size `n`."""

    name: str
    at: Callable[[int], Schema]


SPELLINGS: dict[str, Spelling] = {
    "pointer": lambda name: (f"#/$defs/{name}", {}),
    "percent": lambda name: (f"#/%24defs/{name}", {}),
    "anchor": lambda name: (f"#{name}", {"$anchor": name}),
    "dynamic": lambda name: (f"#{name}", {"$dynamicAnchor": name}),
    "id": lambda name: (f"https://example.com/{name}", {"$id": f"https://example.com/{name}"}),
    "relative id": lambda name: (f"{name}.json", {"$id": f"{name}.json"}),
}

CHAINS: dict[str, Callable[[Schema, Schema], Schema]] = {
    "properties": lambda a, b: {"type": "object", "properties": {"x": a, "k": {"const": 1}, "y": b}, "required": ["x"]},
    "items": lambda a, b: {"type": "array", "prefixItems": [a], "items": b, "minItems": 1, "maxItems": 2},
    "additionalProperties": lambda a, b: {"type": "object", "properties": {"x": a}, "additionalProperties": b},
    "patternProperties": lambda a, b: {"type": "object", "patternProperties": {"^a": a, "b$": b}},
    "dependentSchemas": lambda a, b: {"type": "object", "properties": {"x": a}, "dependentSchemas": {"x": b, "y": a}},
    "if": lambda a, b: {"if": {"required": ["x"]}, "then": {"properties": {"x": a}}, "else": {"properties": {"y": b}}},
    "contains": lambda a, b: {"type": "array", "contains": a, "minContains": 1, "items": b, "maxItems": 3},
    "anyOf": lambda a, b: {"anyOf": [{"properties": {"x": a, "k": {"const": 1}}, "required": ["x", "k"]},
                                     {"properties": {"x": b, "k": {"const": 2}}, "required": ["x", "k"]}]},
    "oneOf": lambda a, b: {"oneOf": [{"type": "array", "items": a, "minItems": 1}, {"type": "object",
                                     "properties": {"x": b}, "required": ["x"]}]},
    "allOf": lambda a, b: {"allOf": [a, b, a]},
    "not": lambda a, b: {"type": "object", "properties": {"x": a}, "not": {"properties": {"x": b}, "required": ["y"]}},
    "unevaluated": lambda a, b: {"type": "object", "allOf": [{"properties": {"x": a}}], "unevaluatedProperties": b},
}  # fmt: skip


def _chain(spell: Spelling, dynamic: bool, link: Callable[[Schema, Schema], Schema], n: int) -> Schema:
    """n definitions, each of which refers to the next one twice."""
    word = "$dynamicRef" if dynamic else "$ref"
    definitions: Schema = {}
    for i in range(n):
        below = {word: spell(f"d{i + 1}")[0]}
        definitions[f"d{i}"] = {**spell(f"d{i}")[1], **link(below, dict(below))}
    definitions[f"d{n}"] = {**spell(f"d{n}")[1], "type": ["string", "null"]}
    return {"$defs": definitions, word: spell("d0")[0]}


GROWTHS: dict[str, Callable[[int], Schema]] = {
    "keys": lambda n: {"type": "object", "properties": {f"k{i}": {"type": "integer"} for i in range(n)}},
    "required": lambda n: {"type": "object", "required": [f"k{i}" for i in range(n)]},
    "enum": lambda n: {"enum": [f"value {i * 7919 % 10007}" for i in range(n)]},
    "numbers": lambda n: {"enum": [i * 1.37 for i in range(n)]},
    "max length": lambda n: {"type": "string", "minLength": n // 2, "maxLength": n},
    "length and pattern": lambda n: {"type": "string", "pattern": "^(ab|ba)*$", "maxLength": n},
    "many patterns": lambda n: {"allOf": [{"type": "string", "pattern": f"{chr(97 + i % 26)}.{{{i // 26}}}"}
                                          for i in range(n)]},
    "pattern of a subset": lambda n: {"type": "string", "pattern": f"^(a|b)*a(a|b){{{n}}}$"},
    "pattern repeats": lambda n: {"type": "string", "pattern": f"^((a{{0,{n}}}b){{0,{n}}}c){{0,{n}}}$"},
    "pattern that backtracks": lambda n: {"type": "string", "pattern": "^" + "a?" * n + "a" * n + "$", "maxLength": n},
    "pattern keys": lambda n: {"type": "object", "patternProperties": {f"{chr(97 + i % 26)}.*{chr(97 + i // 26 % 26)}":
                                                                       {"type": "integer"} for i in range(n)}},
    "key products": lambda n: {"type": "object", "patternProperties": {
        f"(a|b)*a(a|b){{{n}}}": {}, f"(a|b)*b(a|b){{{max(n - 1, 1)}}}c": {}}},
    "key names": lambda n: {"type": "object", "propertyNames": {"pattern": f"^[a-z]{{1,{n}}}$"}},
    "multiple": lambda n: {"type": "number", "multipleOf": round(1 / (7 * n + 3), 7)},
    "integer range": lambda n: {"type": "integer", "minimum": 7 ** min(n, 16), "maximum": 11 ** min(n, 16) + n},
    "number range": lambda n: {"type": "number", "exclusiveMinimum": 1 / (3 * n), "maximum": 7.0 * n},
    "multiples": lambda n: {"allOf": [{"type": "integer", "multipleOf": m} for m in range(2, n + 2)]},
    "contains": lambda n: {"type": "array", "items": {"enum": list(range(10))}, "contains": {"const": 1},
                           "minContains": n, "maxContains": 2 * n},
    "many contains": lambda n: {"type": "array", "allOf": [{"contains": {"const": i}, "maxContains": 2}
                                                           for i in range(n)], "items": {"type": "integer"}},
    "items": lambda n: {"type": "array", "prefixItems": [{"const": i} for i in range(n)], "items": False},
    "counted items": lambda n: {"type": "array", "items": {"type": "array", "maxItems": n}, "minItems": n},
    "unique": lambda n: {"type": "array", "uniqueItems": True, "items": {"enum": list(range(n))}, "minItems": n // 2},
    "counted keys": lambda n: {"type": "object", "minProperties": n // 2, "maxProperties": n,
                               "additionalProperties": {"type": "boolean"}},
    "dependent": lambda n: {"type": "object", "properties": {f"k{i}": {} for i in range(n)},
                            "dependentRequired": {f"k{i}": [f"k{(i * 7 + 1) % n}"] for i in range(n)}},
    "branches": lambda n: {"oneOf": [{"type": "object", "properties": {"t": {"type": "integer", "minimum": i},
                                      f"k{i}": {}}, "required": ["t"]} for i in range(n)]},
    "excluded": lambda n: {"type": "string", "not": {"enum": [f"no{i}" for i in range(n)]}},
    "nested": lambda n: _nested(n),
    "dense choices": lambda n: {"allOf": [{"anyOf": [{"properties": {f"k{i}": {"const": v}}} for v in range(3)]}
                                          for i in range(n)], "type": "object"},
    "conditions": lambda n: {"allOf": [{"if": {"properties": {f"k{i}": {"const": 1}}, "required": [f"k{i}"]},
                                        "then": {"required": [f"k{i + 1}"]}} for i in range(n)], "type": "object"},
}  # fmt: skip
CONTEXTS: dict[str, Callable[[Schema], Schema]] = {
    "alone": lambda part: part,
    "property": lambda part: {"type": "object", "properties": {"a": part, "b": part}, "required": ["a"]},
    "items": lambda part: {"type": "array", "items": part, "maxItems": 3},
    "other keys": lambda part: {"type": "object", "additionalProperties": part, "maxProperties": 4},
    "negated": lambda part: {"type": ["object", "array", "string", "integer"], "not": part},
    "choice": lambda part: {"anyOf": [{"type": "null"}, part, {"type": "object", "properties": {"v": part}}]},
    "unevaluated": lambda part: {"anyOf": [part, {"type": "object"}], "unevaluatedProperties": {"type": "null"}},
    "reference": lambda part: {"$defs": {"p": part}, "type": "object", "properties": {"a": {"$ref": "#/$defs/p"}}},
}


def _nested(n: int) -> Schema:
    schema: Schema = {"type": "null"}
    for i in range(min(n, 100)):
        schema = {"anyOf": [{"type": "object", "properties": {"x": schema, "k": {"const": i % 2}}}, {"const": i}]}
    return schema


def _all() -> Iterator[Family]:
    for (spelling, spell), (name, link) in itertools.product(SPELLINGS.items(), CHAINS.items()):
        dynamic = spelling == "dynamic"
        yield Family(f"{name} by {spelling}", lambda n, s=spell, d=dynamic, k=link: _chain(s, d, k, n))
    for (growth, make), (context, around) in itertools.product(GROWTHS.items(), CONTEXTS.items()):
        yield Family(f"{growth}, {context}", lambda n, m=make, a=around: a(m(n)))


def families() -> list[Family]:
    """The first 300: every chain in every spelling, then every growth in the contexts."""
    return list(itertools.islice(_all(), COUNT))
