"""A sample of the adversarial runs on schemas of our own: nothing wrong comes out, whatever is drawn."""

# ruff: noqa: E501 - a schema a line reads best
from __future__ import annotations

from engine.grammar import GrammarService
from tests.grammar.adversary import run

CASES = [
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 5}, "b": {"type": "number"}}, "required": ["b"]},
    {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{2,4}$"}, "minItems": 2, "maxItems": 5},
    {"$defs": {"t": {"type": "object", "properties": {"l": {"$ref": "#/$defs/t"}, "v": {}}, "required": ["v"]}}, "$ref": "#/$defs/t"},
    {"oneOf": [{"type": "integer", "minimum": 10}, {"type": "string", "format": "date"}, {"type": "null"}]},
    {"type": "array", "items": {"enum": ["a", "b", 1, 2.5, None]}, "uniqueItems": True, "minItems": 3},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 2},
    {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+[.]py$", "minLength": 12}, "minItems": 1, "maxItems": 2},
    {"type": "object", "properties": {"k": {"const": "x"}}, "if": {"required": ["k"]}, "then": {"required": ["z"]}},
]  # fmt: skip


def test_no_document_is_wrong_cut_or_over_budget(byte_service: GrammarService) -> None:
    tally = run(byte_service, [{"name": str(i), "schema": schema} for i, schema in enumerate(CASES)], 160, seed=11)
    assert not tally.refused
    assert tally.documents == 160
    assert tally.wrong == []
    assert tally.statuses["closed"] > 10
    assert tally.statuses["dead_end"] == 0
