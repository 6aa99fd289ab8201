"""Schemas inside Lark grammars and structural tags are lowered by us, with pointers that start at the constraint."""

from __future__ import annotations

from typing import Any

import pytest
import xgrammar as xg

from engine import Constraint
from engine.errors import SchemaInvalid, SchemaRefused
from engine.grammar.sources.composed import composed_lark, composed_tag
from engine.schema import embed, parts
from engine.schema.rules.grammar import KEY_MARK, UNDECLARED
from tests.schema.matching import BYTES, Language, compiler

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer", "multipleOf": 2}}, "required": ["x"]}
PLACE = "/format/tags/0/content/json_schema"


def tag(schema: Any, **more: Any) -> Any:
    content = {"type": "json_schema", "json_schema": schema, **more}
    call = {"begin": "<call>", "content": content, "end": "</call>"}
    return {"type": "structural_tag", "format": {"type": "triggered_tags", "triggers": ["<call>"], "tags": [call]}}


def whole(schema: Any, **more: Any) -> Constraint:
    """A tag that is one schema."""
    return Constraint.structural_tag({"format": {"type": "json_schema", "json_schema": schema, **more}})


@pytest.fixture(autouse=True)
def no_foreign_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """XGrammar's own reading of a schema, where Python can see it, is never asked for."""

    def asked(*_: Any, **__: Any) -> None:
        raise AssertionError("XGrammar's converter was asked")

    monkeypatch.setattr(xg.Grammar, "from_json_schema", asked)
    monkeypatch.setattr(xg.GrammarCompiler, "compile_json_schema", asked)


def accepts(constraint: Constraint, text: str) -> bool:
    embedded, own = embed(constraint), compiler(BYTES)
    if constraint.kind == "lark":
        assert "%json" not in embedded.source
        composed = composed_lark(embedded, xg.TokenizerInfo(BYTES))
    else:
        assert "json_schema" not in repr(embedded.source)
        composed = composed_tag(embedded)
    compiled = composed.recipe.cook(own)
    matcher, rules = xg.GrammarMatcher(compiled), composed.rules()
    taken = all(matcher.accept_string(c) or (matcher.accept_string(KEY_MARK + c)) for c in text)
    accepted = bool(taken and matcher.is_completed())
    assert rules is not None
    found, unguarded = Language(rules).accepts_text(text), Language(rules, guards=False).accepts_text(text)
    assert unguarded >= accepted >= found, "the rule form has another language"
    if not any(name.endswith(UNDECLARED) for name in rules.rules):
        assert unguarded is accepted, "the rule form has another language"
    return found


def test_the_embedded_grammar_holds_what_the_schema_says() -> None:
    constraint = Constraint.structural_tag(tag(SCHEMA))
    assert accepts(constraint, 'so <call>{"x":4}</call> done')
    assert not accepts(constraint, 'so <call>{"x":3}</call> done')
    embedded = embed(constraint)
    assert [(part.pointer, part.schema) for part in embedded.parts] == [(PLACE, SCHEMA)]
    assert (PLACE + "/properties/x", "multipleOf") in {(v.pointer, v.keyword) for v in embedded.verdicts}


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ('{"type": "string", "pattern": "[ab]"}', ['"foobar"'], ['"x"']),
        ('{"type":"string","pattern":"ab","minLength":5,"maxLength":8}', ['"xxabx"'], ['"ab"']),
        ('{"type": "number", "multipleOf": 3}', ["6"], ["4"]),
        ('{"not": {"type": "string"}}', ["1", "[]"], ['"a"']),
        ('{"type": "string"}', ['"\\u00e9"', '"é"'], ['"\\ud800"', '"\\q"']),
        ("true", ["[1]"], ["[", ""]),
    ],
)
def test_json_in_lark_is_our_own_lowering(schema: str, good: list[str], bad: list[str]) -> None:
    constraint = Constraint.lark(f'start: "<" inner ">"\ninner: %json {schema}')
    assert [accepts(constraint, f"<{text}>") for text in good] == [True] * len(good)
    assert [accepts(constraint, f"<{text}>") for text in bad] == [False] * len(bad)


def test_json_is_found_where_it_stands_and_nowhere_else() -> None:
    source = r"""
    // %json {"type": "null"}
    # %json {"type": "null"}
    start: "%json {" a | /%json \/ {/ | %lark { start: %json {"const": "} %json"} } | <json>
    a: %json{"enum": ["\"", "%json 1"]}"!" @json0
    """
    found = parts(Constraint.lark(source))
    assert [part.schema for part in found] == [{"const": "} %json"}, {"enum": ['"', "%json 1"]}]
    assert [part.pointer for part in found] == ["/%json/0", "/%json/1"]
    assert list(embed(Constraint.lark(source)).grammars) == ["json-0", "json-1"]


@pytest.mark.parametrize(
    "source", ["start: %json", "start: %json {", "start: %json 7", "start: %json [true]", 'start: %json {"const": NaN}']
)
def test_json_without_a_schema_is_refused_with_its_line(source: str) -> None:
    with pytest.raises(SchemaInvalid, match="line 2"):
        embed(Constraint.lark("\n" + source))


def test_verdicts_are_those_of_the_schema_alone_at_another_place() -> None:
    alone = {(v.pointer, v.keyword, v.verdict) for v in embed(whole(SCHEMA)).verdicts}
    lark = embed(Constraint.lark('start: "a" | %json {"type":"object","properties":{"x":{"type":"integer",'
                                 '"multipleOf":2}},"required":["x"]}')).verdicts  # fmt: skip
    assert {(v.pointer.removeprefix("/%json/0"), v.keyword, v.verdict) for v in lark} == {
        (pointer.removeprefix("/format/json_schema"), keyword, word) for pointer, keyword, word in alone
    }


def test_options_of_a_constraint_reach_its_schemas() -> None:
    source = 'start: %json {"type":"object","properties":{"a":{"const":1},"b":{"const":2}}}'
    assert not accepts(Constraint.lark(source), '{"b":2,"a":1}')
    assert not accepts(Constraint.lark(source), '{"a": 1}')
    assert accepts(Constraint.lark(source, conformance="spec"), '{"b":2,"a":1,"c":3}')
    assert accepts(Constraint.lark(source, whitespace="flexible"), '{ "a": 1 }')


def test_any_order_means_any_order_with_nothing_missing() -> None:
    schema = {"properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a", "b"]}
    closed = {"type": "object", **schema, "additionalProperties": False}
    assert accepts(whole(closed, any_order=True), '{"b":"x","a":1}')
    assert accepts(whole(closed, any_order=True), '{"a":1,"b":"x"}')
    assert not accepts(whole(closed, any_order=True), '{"b":"x"}')
    assert not accepts(whole(closed), '{"b":"x","a":1}')


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"style": "glm_xml"}, "/format/style"),
        ({"style": 7}, "/format/style"),
        ({"excludes": ["a"]}, "/format/excludes"),
    ],
)
def test_what_the_front_end_does_not_write_is_refused_by_name(more: dict[str, Any], place: str) -> None:
    with pytest.raises(SchemaRefused) as caught:
        embed(whole(SCHEMA, **more))
    assert caught.value.pointer == place


def test_a_format_without_a_type_is_a_schema_too() -> None:
    constraint = Constraint.structural_tag({"format": {"json_schema": {"not": {"type": "string"}}}})
    assert [part.pointer for part in parts(constraint)] == ["/format/json_schema"]


def test_errors_point_into_the_constraint() -> None:
    remote = '{"properties": {"a": {"$ref": "http://example.com"}}}'
    with pytest.raises(SchemaRefused) as caught:
        embed(Constraint.structural_tag(tag({"properties": {"a": {"$ref": "http://example.com"}}})))
    assert (caught.value.pointer or "").startswith(PLACE)
    with pytest.raises(SchemaRefused) as caught:
        embed(Constraint.lark(f"start: %json true | %json {remote}"))
    assert caught.value.pointer == "/%json/1"
    assert caught.value.param == "lark"
