"""Schemas inside structural tags are lowered by us, with pointers that start at the tag."""

from __future__ import annotations

from typing import Any

import pytest
import xgrammar as xg

from engine.errors import SchemaRefused
from engine.schema import embed
from tests.schema.matching import BYTES, compiler

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer", "multipleOf": 2}}, "required": ["x"]}


def tag(schema: Any, **more: Any) -> Any:
    content = {"type": "json_schema", "json_schema": schema, **more}
    call = {"begin": "<call>", "content": content, "end": "</call>"}
    return {"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": ["<call>"], "tags": [call]}}


PLACE = "/format/tags/0/content/json_schema"


def test_the_embedded_grammar_holds_what_the_schema_says() -> None:
    embedded = embed(tag(SCHEMA))
    matcher = xg.GrammarMatcher(compiler(BYTES).compile_structural_tag(embedded.tag))
    assert matcher.fork().accept_string('so <call>{"x":4}</call> done')
    assert not matcher.fork().accept_string('so <call>{"x":3}</call> done')
    assert embedded.schemas == {PLACE: SCHEMA}
    assert (PLACE + "/properties/x", "multipleOf") in {(v.pointer, v.keyword) for v in embedded.verdicts}


def test_other_styles_stay_and_are_named() -> None:
    whole = tag(SCHEMA, style="qwen_xml")
    embedded = embed(whole)
    assert embedded.tag == whole
    assert [(v.pointer, v.verdict) for v in embedded.verdicts] == [(PLACE, "checked")]


def test_errors_point_into_the_tag() -> None:
    with pytest.raises(SchemaRefused) as caught:
        embed(tag({"properties": {"a": {"$ref": "http://example.com"}}}))
    assert str(caught.value.pointer).startswith(PLACE)
