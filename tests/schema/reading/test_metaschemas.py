"""A reference to a metaschema is written out: what is written is a schema to the validator."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import SchemaRefused
from engine.schema import Validator, lower
from tests.schema.matching import Language

SEVEN = "http://json-schema.org/draft-07/schema#"
VALUES: list[Any] = [
    True, {}, {"type": "object"}, {"type": "objekt"}, {"minLength": -1}, {"properties": {"a": {"type": 1}}}, 7,
    {"properties": {"a": {"$ref": "#"}}}, {"minItems": 1, "items": [{}, {"enum": 1}]}, {"anyOf": []}, {"not": 3}, "a",
]  # fmt: skip


@pytest.mark.parametrize("draft", [SEVEN, "https://json-schema.org/draft/2020-12/schema"])
def test_what_is_written_for_a_metaschema_is_a_schema(draft: str) -> None:
    schema = {"$schema": draft, "type": "array", "items": {"$ref": draft}}
    lowered, judge = lower(schema, conformance="spec"), Validator(schema)
    language = Language(lowered.grammar)
    accepted = [language.accepts([value]) for value in VALUES]
    assert accepted == [judge.check_value([value]).ok for value in VALUES]
    assert set(accepted) == {True, False}
    assert {verdict.pointer for verdict in lowered.verdicts} == {"", "/items"}


def test_a_part_of_a_metaschema_is_written_alone() -> None:
    schema = {"$schema": SEVEN, "$ref": SEVEN + "/definitions/simpleTypes"}
    language = Language(lower(schema).grammar)
    assert [language.accepts(value) for value in ("null", "number", "nil", 1)] == [True, True, False, False]


@pytest.mark.parametrize(
    "named", ["http://json-schema.org/draft-08/schema#", "http://json-schema.org/draft-07/nothing"]
)
def test_a_metaschema_that_nobody_knows_is_remote(named: str) -> None:
    with pytest.raises(SchemaRefused, match="never fetched"):
        lower({"$schema": SEVEN, "$ref": named})
