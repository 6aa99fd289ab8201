"""Qwen3-Coder's tool calls: what the grammar lets through is read back as what was meant, and judged."""

from __future__ import annotations

import json

import pytest
import xgrammar
from hypothesis import given, settings
from hypothesis import strategies as st
from xgrammar.testing import _is_grammar_accept_string

from engine import Constraint
from engine.errors import ConstraintError, SchemaInvalid
from engine.grammar.sources.composed import composed_tag
from engine.judge import judge
from engine.schema import embed
from engine.serve.openai.tool_call import Tool, naming_tools, read_calls, read_tools, structural_tag

WEATHER = Tool(
    "weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "minimum": 1},
            "unit": {"enum": ["celsius", "kelvin"]},
            "where": {"$ref": "#/$defs/place"},
            "note": {"type": ["string", "null"]},
        },
        "required": ["city", "days"],
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"lat": {"type": "number"}},
                "required": ["lat"],
                "additionalProperties": False,
            }
        },
    },
)
PING = Tool("ping")
TOOLS = [WEATHER, PING]


def written(name, /, **arguments):
    """A call as the model is trained to write it."""
    lines = [f"<tool_call>\n<function={name}>\n"]
    for key, value in arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        lines.append(f"<parameter={key}>\n{text}\n</parameter>\n")
    return "".join(lines) + "</function>\n</tool_call>"


def judgement(text, tools=TOOLS):
    return judge(Constraint.structural_tag(structural_tag(tools, required=False, parallel=True)), text.encode())


def read(text, tools=TOOLS):
    found = judgement(text, tools)
    assert found.valid, found.message
    return read_calls(text, dict(found.arguments))


def accepts(text, *, required=False, parallel=True, tools=TOOLS):
    tag = structural_tag(tools, required=required, parallel=parallel)
    composed = composed_tag(embed(Constraint.structural_tag(tag)))
    return _is_grammar_accept_string(xgrammar.Grammar.from_structural_tag(json.loads(composed.recipe.text)), text)


GOOD = [
    (written("weather", city="Paris", days=3), {"city": "Paris", "days": 3}),
    (written("weather", city="3", days=3, unit="kelvin"), {"city": "3", "days": 3, "unit": "kelvin"}),
    (written("weather", city="a\n</p> b", days=1), {"city": "a\n</p> b", "days": 1}),
    (written("weather", city="x", days=1, where={"lat": -1.5}), {"city": "x", "days": 1, "where": {"lat": -1.5}}),
    (written("weather", city="x", days=1, note="null"), {"city": "x", "days": 1, "note": None}),
    (written("weather", city="x", days=1, note="hello"), {"city": "x", "days": 1, "note": "hello"}),
    (written("ping"), {}),
]


@pytest.mark.parametrize(("text", "arguments"), GOOD)
def test_what_the_grammar_lets_through_is_read_back(text, arguments):
    assert accepts(text)
    assert accepts(text, required=True)
    content, calls = read("Let me see.\n" + text)
    assert content == "Let me see."
    assert [call.arguments for call in calls] == [arguments]
    told = calls[0].to_dict()
    assert told["type"] == "function"
    assert json.loads(told["function"]["arguments"]) == arguments


@pytest.mark.parametrize(
    "text",
    [
        written("weather", city="Paris"),
        written("weather", days=3, city="Paris"),
        written("weather", city="Paris", days="three"),
        written("weather", city="Paris", days=0),
        written("weather", city="Paris", days=1, unit="rankine"),
        written("weather", city="Paris", days=1, where={"lat": "north"}),
        written("unknown"),
        written("weather", city="Paris", days=1)[:-5],
    ],
)
def test_what_breaks_a_schema_is_refused_by_the_grammar(text):
    assert not accepts(text)
    assert not accepts(text, required=True)


def test_required_means_calls_and_nothing_else():
    call = written("ping")
    assert accepts("no call at all")
    assert accepts("first words, then " + call + " and more words")
    assert not accepts("no call at all", required=True)
    assert not accepts("words " + call, required=True)
    assert accepts(call + "\n" + call, required=True)
    assert not accepts(call + "\n" + call, required=True, parallel=False)


@pytest.mark.parametrize(
    "text", [written("nobody"), written("weather", city="x"), written("weather", city="x", days="many")]
)
def test_a_call_that_fails_its_schema_is_never_handed_out(text):
    found = judgement(text)
    assert not found.valid
    assert read_calls(text, dict(found.arguments)) == (text, [])


def test_every_call_of_a_text_is_read_where_it_stands():
    hidden = written("ping")
    text = "I call <tool_call> now:\n" + written("weather", city=hidden, days=2) + " and " + written("ping")
    content, calls = read(text)
    assert content == "I call <tool_call> now:"
    assert [(call.name, call.arguments) for call in calls] == [("weather", {"city": hidden, "days": 2}), ("ping", {})]


def test_what_a_parameter_means_is_what_the_judge_took_it_for():
    either = {"type": ["string", "integer", "object"], "not": {"enum": [7, {"k": 1}]}}
    keys = [f"k{index}" for index in range(5)]
    tool = Tool("f", {"type": "object", "properties": dict.fromkeys(keys, either), "required": keys})
    _, (call,) = read(written("f", k0="7", k1="8", k2='{"k":1}', k3="{}", k4="text"), [tool])
    assert call.arguments == {"k0": "7", "k1": 8, "k2": '{"k":1}', "k3": {}, "k4": "text"}


@settings(max_examples=60, deadline=None)
@given(
    city=st.text(max_size=20).filter(lambda text: "</parameter>" not in text),
    days=st.integers(1, 10**9),
    where=st.none() | st.fixed_dictionaries({"lat": st.floats(allow_nan=False, allow_infinity=False, width=32)}),
)
def test_every_call_round_trips(city, days, where):
    arguments = {"city": city, "days": days, **({} if where is None else {"where": where})}
    content, calls = read(written("weather", **arguments))
    assert content == ""
    assert calls[0].arguments == arguments


def test_text_without_a_call_is_content():
    assert read("plain <tool words") == ("plain <tool words", [])


@pytest.mark.parametrize(
    ("declared", "match"),
    [
        ([{"type": "custom", "custom": {"name": "x"}}], r"tools\[0\]"),
        ([{"type": "function", "function": {"name": "a b"}}], "name"),
        ([{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}], "object"),
        ([{"type": "function", "function": {"name": "a"}}] * 2, "same name"),
        (["x"], r"tools\[0\]"),
    ],
)
def test_tools_that_cannot_be_used_are_refused_by_position(declared, match):
    with pytest.raises(SchemaInvalid, match=match):
        read_tools(declared)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "maxLength": 3}, ["", "abc", "a\nb", "<"], ["abcd"]),
        ({"type": "string", "minLength": 2}, ["ab", "abc\n"], ["", "a"]),
        ({"type": "string", "pattern": "^[a-z_]+$"}, ["a_b"], ["", "A", "a b"]),
        ({"type": "string", "pattern": "b", "maxLength": 2}, ["ab", "b"], ["a", "abc"]),
        ({"type": "string", "format": "date"}, ["2026-11-23"], ["2026-13-01", "today"]),
        ({"type": "string", "minLength": 100_000}, ["anything: the judge will tell"], []),
        ({"type": "string", "pattern": r"^(a+)\1$"}, ["anything: no regular language"], []),
        ({"type": ["string", "integer"], "minLength": 2, "minimum": 5}, ["ab", "5", "4.5"], ["a", "4"]),
        ({"$ref": "#/properties/x/$defs/unit", "$defs": {"unit": {"enum": ["c", "f"]}}}, ["c", "f"], ["x", '"c"', ""]),
        ({"anyOf": [{"enum": ["c", "f"]}, {"type": "null"}]}, ["c", "null"], ["x", "None"]),
        ({"enum": ["a\nb", "<b>", "", 5, None, ["x"]]}, ["a\nb", "<b>", "", "5", "null", '["x"]'], ["6", "[]", "b"]),
        ({"const": "</parameter"}, ["</parameter"], [""]),
        ({"not": {"type": "string"}}, ["5", "{}"], ["x"]),
        ({"not": {"enum": ["x"]}, "type": "string"}, ["y", ""], ["x"]),
        ({"allOf": [{"type": "string"}, {"maxLength": 2}]}, ["ab"], ["abc"]),
        ({"type": "array", "items": {"type": "string", "enum": ["a"]}}, ['["a"]', "[]"], ["a", '["b"]', "[a]"]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, ['{"a":1}'], ['{"a":"x"}', "a"]),
        (True, ["x", "5", '{"a": 1}', ""], []),
        ({"type": "string", "pattern": "(a?b?c?d?){900}", "maxLength": 900}, ["abcd"], []),
    ],
)
def test_constrained_strings_are_constrained_as_they_are_written(schema, good, bad):
    tool = Tool("f", {"type": "object", "properties": {"x": schema}, "required": ["x"]})
    assert [accepts(written("f", x=text), tools=[tool]) for text in good] == [True] * len(good)
    assert [accepts(written("f", x=text), tools=[tool]) for text in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("schema", "match", "pointer"),
    [
        ({"type": "integer", "minimum": 2, "maximum": 1}, "unsatisfiable", "/4/function/parameters"),
        ({"type": 7}, "not a valid JSON Schema", "/4/function/parameters/properties/x/type"),
        ({"type": "string", "pattern": "("}, "regular", "/4/function/parameters/properties/x/pattern"),
        ({"const": "a </parameter> b"}, "unsatisfiable", "/4/function/parameters"),
    ],
)
def test_a_parameter_that_no_grammar_can_say_is_refused_with_its_tool(schema, match, pointer):
    tool = Tool("f", {"type": "object", "properties": {"x": schema}, "required": ["x"]}, index=4)
    with pytest.raises(ConstraintError, match=match) as caught, naming_tools([PING, tool]):
        accepts("", tools=[PING, tool])
    assert (caught.value.param, caught.value.pointer) == ("tools", pointer)
    assert str(caught.value).startswith("tools[4].parameters: ")
