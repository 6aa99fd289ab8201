"""Constraints that once were refused wrongly, taken wrongly or crashed: through the server, and through the engine.

Each stands for a kind, whose own tests lie with the code; here it is seen that a caller gets the answer.
"""

# ruff: noqa: E501 - a case a line reads best
from __future__ import annotations

import json
import random
from typing import Any

import httpx
import pytest

from engine import Constraint, Engine
from engine.errors import ConstraintError
from engine.schema import Validator
from tests.serve.fakes import Server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("reported")]
AB = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def tag(**format_: Any) -> dict[str, Any]:
    return {"type": "structural_tag", "format": format_}


ACCEPTED, REJECTED, REFUSED, NAMED = "accepted", "rejected", "refused", "rejected or named"
GRAMMARS: list[tuple[str, Any, str, str]] = [
    ("ebnf", 'root ::= "a"{129}', "a" * 129, ACCEPTED),
    ("ebnf", 'root ::= "a"{129}', "a" * 128, REJECTED),
    ("lark", 'start: "a"{200}', "a" * 200, ACCEPTED),
    ("lark", "start: /a{200}/", "a" * 200, ACCEPTED),
    ("structural_tag", tag(type="regex", pattern="(ab){200}"), "ab" * 200, ACCEPTED),
    ("lark", "start: /(ab){2,300}c/i", "abABc", ACCEPTED),
    ("ebnf", 'root ::= Regex("foo(?!bar)[a-z]+")', "foobar", REFUSED),
    ("lark", 'start: %json {"type":"string","pattern":"[ab]"}', '"foobar"', ACCEPTED),
    ("lark", 'start: %json {"type":"string","pattern":"ab","minLength":5,"maxLength":8}', '"ab"', REJECTED),
    ("lark", 'start: %json {"oneOf":[{"const":7},{"enum":[7]}]}', "7", REFUSED),
    ("lark", 'start: %json {"type":"number","multipleOf":3}', "4", NAMED),
    ("lark", 'start: %json {"not":{"type":"string"}}', '"a"', NAMED),
    ("lark", 'start: %json {"type":"string"}', '"\\ud800"', REJECTED),
    ("structural_tag", tag(type="json_schema", json_schema=AB, any_order=True), '{"b":"x","a":1}', ACCEPTED),
]
U = {"c": {"type": "string", "enum": ["c", "f"]}}
SCHEMAS: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "only required": (
        {"type": "object", "required": ["a"]},
        [{"a": 1}, {"a": 1, "b": 2}, {"b": 1, "a": 2}],
        [{}, {"b": 1}],
    ),
    "escaped angles": ({"type": "string", "pattern": "^\\<a\\>$"}, ["<a>"], ["a"]),
    "escaped angles in a class": ({"type": "string", "pattern": "^[\\<\\>]+$"}, ["<>"], ["a"]),
    "a repeat of 129": ({"type": "string", "pattern": "^[^\\n\\r]{1,129}$"}, ["x" * 129], ["", "x" * 130, "a\nb"]),
}
TOOLS = {
    "an enum behind a reference": {
        "type": "object",
        "properties": {"u": {"$ref": "#/$defs/U"}},
        "required": ["u"],
        "$defs": {"U": U["c"]},
    },
    "an enum beside null": {
        "type": "object",
        "properties": {"u": {"anyOf": [U["c"], {"type": "null"}]}},
        "required": ["u"],
    },
    "an optional enum": {
        "type": "object",
        "properties": {"u": {"anyOf": [{"$ref": "#/$defs/U"}, {"type": "null"}], "default": None}},
        "$defs": {"U": U["c"]},
    },
}


def post(server: Server, path: str, **body: Any) -> httpx.Response:
    return server.client.post(path, json=body, timeout=300)


def takes(engine: Engine, constraint: Constraint, text: str) -> bool:
    """Whether masks and matcher of decoding take a text, to its end."""
    matcher = engine.grammars.compile(constraint).matcher()
    stop = engine.tokenizer.stop_token_ids[0]
    return all(matcher.accept(token) for token in [*engine.tokenizer.encode(text), stop])


@pytest.mark.parametrize(
    ("kind", "source", "text", "outcome"),
    GRAMMARS,
    ids=[f"{kind} {json.dumps(source)[:60]}" for kind, source, *_ in GRAMMARS],
)
def test_a_grammar_gets_the_outcome_its_source_says(
    engine: Engine, server: Server, kind: str, source: Any, text: str, outcome: str
) -> None:
    answer = post(server, "/generate", prompt="x", max_tokens=900, temperature=1.0, **{kind: source})
    constraint = getattr(Constraint, kind)(source)
    if outcome == REFUSED:
        assert (answer.status_code, answer.json()["error"]["type"]) == (422, "SchemaRefused")
        with pytest.raises(ConstraintError):
            engine.grammars.compile(constraint)
        return
    assert answer.status_code == 200, answer.text
    assert answer.json()["valid"] is True
    named = [
        verdict for verdict in engine.submit_check(constraint).report()["verdicts"] if verdict["verdict"] == "checked"
    ]
    assert takes(engine, constraint, text) is (outcome == ACCEPTED) or (outcome == NAMED and named)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_takes_what_it_allows_and_nothing_else(engine: Engine, server: Server, name: str) -> None:
    schema, valid, invalid = SCHEMAS[name]
    answer = post(server, "/generate", prompt="x", max_tokens=600, temperature=1.0, schema=schema)
    assert answer.status_code == 200, answer.text
    assert Validator(schema).check_value(answer.json()["ir_json"]).ok
    constraint = Constraint.json_schema(schema)
    checked = [
        verdict for verdict in engine.submit_check(constraint).report()["verdicts"] if verdict["verdict"] == "checked"
    ]
    for document in valid:
        assert takes(engine, constraint, json.dumps(document, separators=(",", ":"))), document
        assert Validator(schema).check_value(document).ok
    for document in invalid:
        assert checked or not takes(engine, constraint, json.dumps(document, separators=(",", ":"))), document
        assert not Validator(schema).check_value(document).ok


@pytest.mark.parametrize("name", TOOLS)
def test_a_parameter_that_is_an_enum_is_written_as_one_whatever_its_spelling(server: Server, name: str) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": TOOLS[name]}}
    for seed in range(6):
        answer = post(server, "/v1/chat/completions", model="fake", messages=[{"role": "user", "content": "x"}], tools=[tool],
                      tool_choice="required", parallel_tool_calls=False, max_tokens=120, seed=seed)  # fmt: skip
        assert answer.status_code == 200, answer.text
        (call,) = answer.json()["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]).get("u") in ("c", "f", None)


def test_a_draft_is_named_where_it_would_help_and_a_circle_without_a_base_is_refused(server: Server) -> None:
    pair = {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": [{"type": "integer"}, {"type": "string", "maxLength": 3}],
    }
    told = post(server, "/generate", prompt="x", schema=pair).json()["error"]
    assert (told["type"], "draft" in told["message"]) == ("SchemaInvalid", True)
    assert isinstance(post(server, "/generate", prompt="x", schema=pair, draft=7).json()["ir_json"][0], int)
    circle = {"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/n"}}}
    assert post(server, "/generate", prompt="x", schema=circle).json()["error"]["type"] == "SchemaRefused"


def test_a_deadline_right_after_going_back_ends_in_a_status_of_the_contract(server: Server) -> None:
    rng = random.Random(3)
    inner = {"k": {"type": "integer", "minimum": 0, "maximum": 1}}
    item = {"type": "object", "properties": inner, "required": ["k"], "additionalProperties": False}
    schema = {"type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": True, "items": item}
    for seed in range(25):
        answer = post(server, "/generate", prompt="x", schema=schema, conformance="spec", n=3, temperature=1.0, max_tokens=400,
                      seed=seed, deadline_s=rng.uniform(0.05, 0.1))  # fmt: skip
        assert answer.status_code in (200, 422, 504), answer.text
        if answer.status_code == 422:
            assert answer.json()["error"]["type"] in ("invalid", "Invalid"), answer.text
        for sample in answer.json().get("samples", ()):
            assert sample["valid"] is Validator(schema).check(sample["raw_text"]).ok
            assert sample["status"] in ("complete", "closed", "invalid", "timeout")
