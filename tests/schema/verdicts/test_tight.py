"""Tight closes the objects that declare properties, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from engine.schema import lower
from tests.schema.matching import Language

A, B = {"a": 1}, {"b": 1}
BOTH_WAYS = [{"a": 1, "b": 2}, {"b": 1, "a": 2}]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"required": ["a"]}, [A, *BOTH_WAYS], [{}, B]),
        ({"allOf": [{"required": ["a"]}, {"required": ["b"]}]}, [*BOTH_WAYS, {"c": 0, "a": 1, "b": 2}], [A, B]),
        ({"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [A, B, *BOTH_WAYS], [{}, {"c": 1}]),
        ({"not": {"required": ["a"]}}, [{}, B, {"b": 1, "c": 2}], [A, *BOTH_WAYS]),
        ({"patternProperties": {"^a": {"type": "integer"}}, "required": ["a"]}, [A, *BOTH_WAYS], [B, {"a": "x"}]),
        ({"propertyNames": {"maxLength": 1}, "required": ["a"]}, [A, *BOTH_WAYS], [{"a": 1, "bb": 2}, B]),
        ({"dependentRequired": {"a": ["b"]}}, [{}, B, {"c": 1}, *BOTH_WAYS], [A]),
        ({"additionalProperties": {"type": "integer"}, "required": ["a"]}, [A, *BOTH_WAYS], [{"a": 1, "b": "x"}, B]),
        ({"properties": {}, "required": ["a"]}, [A, *BOTH_WAYS], [B]),
        ({"minProperties": 1, "required": ["a"]}, [A, *BOTH_WAYS], [B]),
        # what declares properties stays closed, whatever stands beside it
        ({"properties": {"a": {}}, "required": ["a"]}, [A], [*BOTH_WAYS, B]),
        ({"properties": {"a": {}}, "allOf": [{"required": ["b"]}]}, [B, BOTH_WAYS[0]], [A, {"b": 1, "c": 2}]),
        ({"properties": {"a": {}}, "unevaluatedProperties": True}, [{}, A, BOTH_WAYS[0]], []),
        ({"patternProperties": {"^a": {}}, "required": ["a"], "unevaluatedProperties": False}, [A], [*BOTH_WAYS, B]),
    ],
)
def test_only_declared_properties_close_an_object(schema: Any, good: list[Any], bad: list[Any]) -> None:
    language = Language(lower({"type": "object", **schema}).grammar)
    assert [language.accepts(document) for document in good] == [True] * len(good)
    assert [language.accepts(document) for document in bad] == [False] * len(bad)


def test_keys_that_are_only_required_come_in_any_order() -> None:
    names = [*"abcdefgh"]
    lowered = lower({"type": "object", "required": names})
    language = Language(lowered.grammar)
    assert language.accepts({"z": 1, **dict.fromkeys(reversed(names), 0)})
    assert not language.accepts(dict.fromkeys(names[1:], 0))
    assert [v.verdict for v in lowered.verdicts if v.keyword == "required"] == ["enforced"]


@pytest.mark.parametrize(
    "schema", [{"minimum": 1}, {"items": False}, {"required": ["a"]}, {"not": {"enum": [{"a": 1}]}}]
)
def test_types_that_no_keyword_speaks_of_are_named(schema: Any) -> None:
    assert not Language(lower(schema).grammar).accepts(None)
    assert {verdict.verdict for verdict in lower(schema).verdicts} == {"narrowed"}
    assert {verdict.verdict for verdict in lower(schema, conformance="spec").verdicts} == {"enforced"}


@pytest.mark.parametrize(
    ("schema", "documents"),
    [
        ({"type": "object", "not": {"enum": [{"a": 1}]}}, [{"a": "x"}, {"a": None}]),  # no constant: no type left out
        ({"type": "array", "not": {"contains": {"type": "integer"}}}, [["x"], [None]]),  # nor where one is refused
        ({"minProperties": 2, "propertyNames": {"const": "a"}}, [None, [1]]),  # no object can be
        ({"required": ["a"], "properties": {"a": {"minProperties": 1, "propertyNames": False}}}, [{"a": 1}]),
    ],
)
def test_no_value_is_left_out_where_nobody_left_a_type_out_or_nothing_else_is_left(schema: Any, documents: Any) -> None:
    language = Language(lower(schema).grammar)
    assert [language.accepts(document) for document in documents] == [True] * len(documents)
