"""What most schemas share, as grammars: a compiler that has seen them knows most rules of the next schema.

Knows schemas and key rules; does not know compilers. Compiled at start-up, none of it is for a document.
"""

from __future__ import annotations

from typing import Any

from engine.schema.grammar import Grammar, Ref, Rule
from engine.schema.keys import KeyRules
from engine.schema.layout import Layout
from engine.schema.lower import lower
from engine.schema.text import TextRules

FORMATS = ("date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference", "uuid")
SHAPES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "any": {},
        **{kind: {"type": kind} for kind in ("string", "integer", "number", "boolean", "null", "object", "array")},
        **{name: {"type": "string", "format": name} for name in FORMATS},
        "short": {"type": "string", "minLength": 1, "maxLength": 128},
        "list": {"type": "array", "items": {"type": "string"}},
        "count": {"type": "integer", "minimum": 0},
        "rank": {"type": "integer", "minimum": 1},
        "share": {"type": "number", "minimum": 0},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
"""Scalars, formats, lengths up to 128 and free-form parts."""


def common_grammars() -> list[Grammar]:
    """Grammars that hold the shared rules of both conformances, compact layout. Tens of milliseconds."""
    return [
        lower(SHAPES, conformance="tight").grammar,
        lower(SHAPES, conformance="spec").grammar,
        _roads(),
    ]


def _roads() -> Grammar:
    """Every rule by which an undeclared key can leave the declared ones."""
    rules: dict[str, Rule] = {}
    keys = KeyRules(TextRules(rules, "s"), Layout({}, flexible=False).after_key)
    roads: tuple[Ref, ...] = keys.roads()
    rules["roads"] = Rule("roads", tuple((road,) for road in roads))
    return Grammar(rules, "roads")
