"""The judge: strict JSON, the caller's own draft, formats asserted, nothing fetched."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from engine.errors import JudgingLimit, SchemaInvalid, SchemaRefused
from engine.schema import JsonInvalid, Validator, parse_json
from engine.schema.formats.registry import EXACT
from engine.schema.reading.dialect import Draft
from engine.schema.reading.keywords import asserts_format
from engine.schema.reading.validator import _VALIDATORS


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "1" * 400, '{"a":1,"a":2}', '"\\ud800"', "[1,]", '"\t"',
                                  "", "[" * 100_000, '{"\\udc00":1}'])  # fmt: skip
def test_what_is_not_strict_json_is_refused(text: str) -> None:
    with pytest.raises(JsonInvalid):
        parse_json(text)


def test_bytes_must_be_utf8_and_pairs_of_surrogates_are_one_character() -> None:
    with pytest.raises(JsonInvalid):
        parse_json(b'"\xff"')
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"
    assert parse_json("123456789012345678901234567890") == 123456789012345678901234567890


def test_a_failure_says_where_and_which_keyword() -> None:
    schema = {"properties": {"d": {"$ref": "#/$defs/day"}}, "$defs": {"day": {"type": "string", "format": "date"}}}
    checked = Validator(schema).check('{"d":"tomorrow"}')
    assert (checked.ok, checked.pointer, checked.keyword) == (False, "/d", "format")
    assert checked.schema_pointer == "/$defs/day/format"
    assert Validator(schema).check('{"d":"2024-02-29"}').value == {"d": "2024-02-29"}


def test_drafts_are_read_as_they_say() -> None:
    draft4 = {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}
    assert not Validator(draft4).check("1").ok
    draft7 = {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a", "maxLength": 1,
              "definitions": {"a": {}}}  # fmt: skip
    assert Validator(draft7).check('"abc"').ok
    assert not Validator({"$ref": "#/$defs/a", "maxLength": 1, "$defs": {"a": {}}}).check('"abc"').ok


def test_broken_and_remote_schemas_have_their_own_errors() -> None:
    with pytest.raises(SchemaInvalid) as caught:
        Validator({"properties": {"a": {"minimum": "x"}}})
    assert caught.value.pointer == "/properties/a/minimum"
    with pytest.raises(SchemaRefused):
        Validator({"$ref": "http://example.com/a.json"})


@pytest.mark.parametrize("draft", list(Draft))
def test_formats_are_asserted_where_the_judge_asserts_them(draft: Draft) -> None:
    never = "\\ (%zz:[{ \x00."
    for name in EXACT:
        judged = not _VALIDATORS[draft]({"format": name}, validate_formats=True).is_valid(never)
        assert asserts_format(draft, name) == judged, name


def test_the_judge_never_fetches() -> None:
    with pytest.raises((SchemaRefused, jsonschema_rs.ReferencingError)):
        Validator({"$id": "http://localhost:1/root.json", "$ref": "other.json"})


GOES_BACK = "^(?:(?!x).)*$"
LONG = "ab" * 1_200_000


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": GOES_BACK}, LONG),
        ({"not": {"pattern": GOES_BACK}}, LONG),
        ({"if": {"pattern": GOES_BACK}, "then": False}, LONG),
        ({"patternProperties": {GOES_BACK: {"type": "null"}}}, {LONG: None}),
        ({"properties": {"a": {"items": {"pattern": GOES_BACK}}}}, {"a": [LONG]}),
    ],
    ids=["pattern", "not", "if", "key", "deep"],
)
def test_a_text_too_long_for_a_pattern_that_goes_back_is_neither_valid_nor_invalid(schema: Any, value: Any) -> None:
    with pytest.raises(JudgingLimit, match="too long for a pattern"):
        Validator(schema).check_value(value)


def test_a_long_text_that_no_such_pattern_applies_to_is_judged() -> None:
    schema = {"properties": {"a": {"pattern": GOES_BACK}, "b": {"pattern": "^[ab]+$"}}}
    assert Validator(schema).check_value({"a": "y" * 20_000, "b": LONG}).ok
    assert not Validator(schema).check_value({"a": "y" * 20_000 + "x", "b": LONG}).ok
