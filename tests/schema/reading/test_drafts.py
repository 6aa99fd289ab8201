"""Which draft a schema is read as: its own `$schema`, else what the caller says, else 2020-12."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine import Constraint, Request
from engine.errors import RequestError, SchemaInvalid
from engine.schema import Validator, lower
from tests.schema.matching import Language

TUPLE = {"type": "array", "minItems": 2, "maxItems": 2, "items": [{"type": "integer"}, {"type": "string"}]}


@pytest.mark.parametrize(
    ("schema", "draft"),
    [
        (TUPLE, "2019-09"),
        ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, 4),
        ({"properties": {"a": {"items": [{}]}}}, "2019-09"),
    ],
)
def test_what_an_older_draft_allows_is_told_with_the_way_to_say_so(schema: Any, draft: Any) -> None:
    with pytest.raises(SchemaInvalid) as caught:
        lower(schema)
    assert f"draft={draft!r}" in str(caught.value)
    Validator(json.loads(Constraint.json_schema(schema, draft=draft).source))
    named = str(caught.value).split('"$schema": "')[1].split('"')[0]
    Validator({"$schema": named, **schema})


@pytest.mark.parametrize("schema", [{"type": 7}, {"$schema": "https://json-schema.org/draft/2020-12/schema", **TUPLE}])
def test_what_no_other_draft_would_change_says_nothing_of_drafts(schema: Any) -> None:
    with pytest.raises(SchemaInvalid) as caught:
        lower(schema)
    assert "draft=" not in str(caught.value)


@pytest.mark.parametrize("draft", [4, 6, 7, "2019-09"])
def test_the_draft_that_a_caller_names_decides_grammar_and_judge(draft: Any) -> None:
    schema = json.loads(Constraint.json_schema(TUPLE, draft=draft).source)
    language, judge = Language(lower(schema).grammar), Validator(schema)
    for document, valid in (([1, "a"], True), ([1], False), (["a", 1], False)):
        assert language.accepts(document) is valid
        assert judge.check_value(document).ok is valid


def test_formats_are_asserted_in_every_draft() -> None:
    for draft in (4, 6, 7, "2019-09", "2020-12"):
        schema = json.loads(Constraint.json_schema({"type": "string", "format": "date-time"}, draft=draft).source)
        assert not Validator(schema).check('"yesterday"').ok
        assert not Language(lower(schema).grammar).accepts("yesterday")


def test_a_schema_that_names_its_draft_keeps_it() -> None:
    named = {"$schema": "http://json-schema.org/draft-07/schema#", **TUPLE}
    assert Constraint.json_schema(named, draft=4) == Constraint.json_schema(named)
    assert Constraint.json_schema(True, draft=4) == Constraint.json_schema(True)


def test_the_draft_is_part_of_the_key() -> None:
    schema = {"minimum": 1}
    drafts = (None, 4, 6, 7, "2019-09", "2020-12")
    assert len({Constraint.json_schema(schema, draft=draft).key for draft in drafts}) == len(drafts)


@pytest.mark.parametrize("draft", [5, "7", 7.5, True, [], {}, "draft-07"])
def test_a_draft_that_nobody_knows_is_refused_by_name(draft: Any) -> None:
    with pytest.raises(RequestError, match="draft must be 4, 6, 7") as caught:
        Constraint.json_schema({}, draft=draft)
    assert caught.value.param == "draft"


def test_plain_values_name_a_draft_beside_a_schema_only() -> None:
    request = Request.from_mapping({"prompt": "x", "schema": TUPLE, "draft": 7})
    assert request.constraint == Constraint.json_schema(TUPLE, draft=7)
    for other in ({"regex": "a"}, {"lark": 'start: "a"'}, {}):
        with pytest.raises(RequestError, match="draft does not apply"):
            Request.from_mapping({"prompt": "x", **other, "draft": 7})
