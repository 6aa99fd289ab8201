"""Verdicts are honest both ways: `checked` only where a document slips through, nothing slips through unnamed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from engine.schema import Validator, Verdict, lower
from engine.schema.reading.keywords import asserted
from engine.schema.reading.reference import Schemas
from engine.schema.verdicts.verdict import REPEATED_KEYS
from tests.schema.matching import Language
from tests.schema.verdicts.fuzz import run

SEVEN = "http://json-schema.org/draft-07/schema#"
SEVERAL = {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "contains": {"minLength": 1},
           "minItems": 2}  # fmt: skip

NUMBER_IN_TEXT = {"type": "string", "contentMediaType": "application/json", "contentSchema": {"type": "integer"}}

NEEDED: list[tuple[str, str, Any, Any]] = [
    ("uniqueItems", "", SEVERAL, ["a", "a"]),
    ("minLength", "", {"type": "string", "pattern": "^(a{97}|b{89})*$", "minLength": 990, "maxLength": 999}, "b" * 89),
    ("maxItems", "", {"type": "array", "contains": {"const": 1}, "maxItems": 600}, [1] * 601),
    ("maxProperties", "", {"type": "object", "maxProperties": 1, "allOf": [
        {"not": {"additionalProperties": {"const": 0}}}, {"not": {"additionalProperties": {"const": 1}}}]},
     {"a": 0, "b": 1}),
    ("pattern", "", {"type": "string", "pattern": "^(a+)\\1$"}, "aaa"),
    ("patternProperties", "", {"type": "object", "patternProperties": {"^(a+)\\1$": {"type": "null"}}}, {"aa": 1}),
    ("patternProperties", "", {"type": "object", "patternProperties": {
        "drive_(one|two|three)": {"type": "null"}, "port_[a-z]+[0-9]+": {"type": "null"}, "disk_[a-z]+": True}},
     {"drive_one": 1}),
    ("additionalProperties", "", {"type": "object", "patternProperties": {"^(a+)\\1$": True},
                                  "additionalProperties": False}, {"b": 1}),
    ("propertyNames", "", {"type": "object", "propertyNames": {"maxLength": 1000}}, {"x" * 1001: 1}),
    ("not", "", {"type": "array", "not": {"uniqueItems": True}}, [1, 2]),
    ("not", "", {"type": "string", "not": {"pattern": "\\p{L}"}}, "\u1c8a"),
    ("if", "", {"if": {"uniqueItems": True}, "then": {"maxItems": 1}, "type": "array"}, [1, 2]),
    ("then", "", {"if": {"uniqueItems": True}, "then": {"maxItems": 1}, "type": "array"}, [1, 2]),
    ("else", "", {"if": {"not": {"uniqueItems": True}}, "else": {"maxItems": 1}, "type": "array"}, [1, 2]),
    ("oneOf", "", {"oneOf": [{"type": "array", "uniqueItems": True}, {"type": "array", "maxItems": 3}]}, [1]),
    ("anyOf", "", {"anyOf": [SEVERAL]}, ["a", "a"]),
    ("contains", "", {"type": "array", "contains": SEVERAL}, [["a", "a"]]),
    ("maxContains", "", {"type": "array", "contains": {"type": "array", "uniqueItems": True}, "maxContains": 1},
     [[], []]),
    ("dependentSchemas", "", {"type": "object", "dependentSchemas": {
        key: {"properties": {"z": False}} for key in "abcdefg"}}, {"g": 1, "z": 1}),
    ("contentMediaType", "", {"$schema": SEVEN, "type": "string", "contentMediaType": "application/json"}, "{:"),
    ("contentSchema", "", {**NUMBER_IN_TEXT, "pattern": "^.a"}, "xa"),
    ("contentSchema", "", {**NUMBER_IN_TEXT, "const": "a"}, "a"),
    ("contentSchema", "", {**NUMBER_IN_TEXT, "contentEncoding": "base64"}, "IQ=="),
    ("uniqueItems", "", {"type": "array", "items": NUMBER_IN_TEXT, "uniqueItems": True}, ["1", "1"]),
    ("uniqueItems", "/contentSchema", {**NUMBER_IN_TEXT, "contentSchema": {"type": "array", "uniqueItems": True}},
     "[1,1]"),
    ("contentSchema", "", {**NUMBER_IN_TEXT, "contentSchema": {"type": "array", "uniqueItems": True}}, "[1,1]"),
    ("unevaluatedProperties", "", {"type": "object", "unevaluatedProperties": False,
                                   "anyOf": [{"properties": {k: True}} for k in "abcde"]}, {"z": 1}),
]  # fmt: skip


@pytest.mark.parametrize("rest", ["additionalProperties", "unevaluatedProperties"])
@pytest.mark.parametrize("pattern", ["^\\p{L}$", "^\\P{L}$"])
def test_keys_that_a_pattern_matches_by_version_of_unicode_are_not_written(pattern: str, rest: str) -> None:
    schema = {"type": "object", "patternProperties": {pattern: {"type": "number"}}, rest: {"type": "string"}}
    language = Language(lower(schema, conformance="spec").grammar)
    letter = pattern == "^\\p{L}$"
    assert [language.accepts({"a": 1}), language.accepts({"a": "x"})] == [letter, not letter]
    assert not any(language.accepts({"\u1c8a": value}) for value in (1, "x"))


@pytest.mark.parametrize(("keyword", "pointer", "schema", "document"), NEEDED, ids=[case[0] for case in NEEDED])
def test_a_checked_keyword_lets_a_document_through(keyword: str, pointer: str, schema: Any, document: Any) -> None:
    lowered = lower(schema, conformance="spec")
    words = {(verdict.pointer, verdict.keyword): verdict.verdict for verdict in lowered.verdicts}
    assert words[pointer, keyword] == "checked"
    assert not Validator(schema).check_value(document).ok
    assert Language(lowered.grammar).accepts(document)


ENFORCED: list[tuple[Any, Any, Any]] = [
    ({"type": "string", "maxLength": 1000}, "x" * 1000, "x" * 1001),
    ({"type": "string", "minLength": 1000}, "x" * 1000, "x" * 999),
    ({"type": "string", "pattern": "[A-z]+", "minLength": 3, "maxLength": 64}, "x" * 64, "x" * 65),
    ({"type": "string", "maxLength": 40, "anyOf": [{"const": ""}, {"pattern": "[A-z]"}]}, "x" * 40, "x" * 41),
    ({"type": "string", "not": {"maxLength": 500}}, "x" * 501, "x" * 500),
    ({"type": "string", "not": {"minLength": 500}}, "x" * 499, "x" * 500),
    ({"type": "string", "pattern": "^[^\\n]{1,200}$", "format": "uri"}, "a:" + "x" * 198, "a:" + "x" * 199),
    ({**NUMBER_IN_TEXT, "maxLength": 3}, "123", "1234"),
    ({**NUMBER_IN_TEXT, "minLength": 3}, "1  ", "1 "),
    ({"type": "array", "items": {"type": "null"}, "maxItems": 600}, [None] * 600, [None] * 601),
    ({"type": "array", "items": {"type": "null"}, "minItems": 600}, [None] * 600, [None] * 599),
    ({"type": "object", "required": list("abcdefgh")}, dict.fromkeys("habcdefg", 1), dict.fromkeys("abcdefg", 1)),
    ({"type": "object", "maxProperties": 99}, {f"k{i}": 0 for i in range(99)}, {f"k{i}": 0 for i in range(100)}),
    ({"type": "object", "minProperties": 2}, {"a": 0, "b": 0}, {"a": 0}),
    ({"type": "object", "dependentRequired": {f"k{i}": [f"k{i + 1}"] for i in range(60)}},
     {f"k{i}": 0 for i in range(3, 61)}, {f"k{i}": 0 for i in range(3, 60)}),
    ({"type": "object", "required": ["a"], "maxProperties": 1, "not": {"additionalProperties": False}},
     {"a": 1}, {"b": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "good", "bad"), ENFORCED)
def test_what_is_counted_is_enforced_at_any_number(schema: Any, good: Any, bad: Any) -> None:
    lowered = lower(schema, conformance="spec")
    language = Language(lowered.grammar)
    assert {verdict.verdict for verdict in lowered.verdicts} <= {"enforced", "narrowed"}
    assert [language.accepts(document) for document in (good, bad)] == [True, False]


def test_a_key_that_stands_twice_is_no_document() -> None:
    schema = {"type": "object", "properties": {"a": True, "b": True}, "minProperties": 2}
    for conformance in ("spec", "tight"):
        lowered = lower(schema, conformance=conformance)  # type: ignore[arg-type]
        assert REPEATED_KEYS not in {verdict.keyword for verdict in lowered.verdicts}
        language = Language(lowered.grammar)
        assert language.accepts_text('{"a":1,"b":1}')
        repeats = ['{"a":1,"a":1}', '{"a":1,"b":1,"c":1,"\\u0063":1}', '{"a":1,"b":{"d":1,"d":1}}']
        assert [language.accepts_text(text) for text in repeats] == [False] * 3


def test_one_verdict_for_every_keyword_occurrence() -> None:
    schema = {"type": "object", "title": "t", "properties": {"a/b": {"type": "string", "minLength": 1}},
              "required": ["a/b"], "$defs": {"unused": {"minimum": 1}}}  # fmt: skip
    found = [(verdict.pointer, verdict.keyword) for verdict in lower(schema).verdicts]
    assert sorted(found) == [("", "properties"), ("", "required"), ("", "type"), ("/$defs/unused", "minimum"),
                             ("/properties/a~1b", "minLength"), ("/properties/a~1b", "type")]  # fmt: skip
    places = Schemas(schema, depth=9, nodes=99).locations
    listed = [(at.pointer, keyword) for at in places for keyword in asserted(at.schema, at.draft)]
    assert sorted(found) == sorted(listed)


def test_tight_names_what_it_narrows_and_plain_dicts_come_out() -> None:
    schema = {"type": "object", "properties": {"a": {"format": "email"}, "b": {}}}
    words = {(v.pointer, v.keyword): v.verdict for v in lower(schema).verdicts}
    assert words["", "properties"] == "narrowed"
    assert words["/properties/a", "format"] == "narrowed"
    assert Verdict("", "type", "enforced", "r").to_dict() == {
        "pointer": "", "keyword": "type", "verdict": "enforced", "reason": "r",
    }  # fmt: skip


WHOLE = {"type": "integer"}


@pytest.mark.parametrize("conformance", ["spec", "tight"])
@pytest.mark.parametrize(
    "schema",
    [
        {"not": WHOLE},
        {"not": WHOLE, "multipleOf": 2},
        {"not": WHOLE, "minimum": 2, "maximum": 2},
        {"not": WHOLE, "enum": [1, 2.5, 3.0]},
        {"not": {**WHOLE, "minimum": 3}, "multipleOf": 1},
        {"not": {**WHOLE, "multipleOf": 2}},
        {"not": {"not": WHOLE}},
        {"not": {"multipleOf": 2, "not": WHOLE}},
        {"oneOf": [WHOLE, {"multipleOf": 2}]},
        {"anyOf": [{"maximum": 1}, {"not": WHOLE}], "multipleOf": 0.5},
    ],
    ids=json.dumps,
)
def test_one_and_a_zero_behind_the_point_is_no_integer_of_draft_4(schema: Any, conformance: Any) -> None:
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", **schema}
    lowered = lower(schema, conformance=conformance)
    judge, language = Validator(schema), Language(lowered.grammar)
    assert not [verdict for verdict in lowered.verdicts if verdict.verdict == "checked"]
    texts = ("2", "2.0", "-4.0", "3", "3.0", "1", "1.0", "2.5", "-0.5", "0", "0.0")
    taken = {text for text in texts if language.accepts_text(text)}
    valid = {text for text in texts if judge.check(text.encode()).ok}
    assert taken == valid if conformance == "spec" else taken <= valid


UNKNOWN_BRANCH = {"if": {"format": "email", "properties": {"a": True}, "contains": {"maxItems": 1}}}
SEVEN_SCHEMAS = {"dependentSchemas": {key: {"properties": {key: True, key * 2: True}} for key in "abcdefg"}}


@pytest.mark.parametrize("schema", [
    {"unevaluatedProperties": False, **UNKNOWN_BRANCH},
    {"unevaluatedProperties": False, "allOf": [UNKNOWN_BRANCH]},
    {"unevaluatedItems": False, "allOf": [UNKNOWN_BRANCH]},
    {"unevaluatedProperties": False, "$ref": "#/$defs/u", "$defs": {"u": SEVEN_SCHEMAS}},
    {"unevaluatedProperties": False, "allOf": [{"anyOf": [{"properties": {key: True}} for key in "abcde"]}]},
], ids=json.dumps)  # fmt: skip
def test_what_unevaluated_keywords_cannot_know_is_named_by_them(schema: dict[str, Any]) -> None:
    judge, lowered = Validator(schema), lower(schema, conformance="spec")
    language = Language(lowered.grammar)
    keyword = next(iter(schema))
    assert [v.pointer for v in lowered.verdicts if v.verdict == "checked" and v.keyword == keyword] == [""]
    documents = [{"a": 1}, {"g": 1, "gg": 1}, {"aa": 1}, {"z": 1}, {}, [[1]], [[1, 2]], [1], []]
    valid = [document for document in documents if judge.check_value(document).ok]
    assert len(valid) < len(documents)
    assert all(language.accepts(document) for document in valid)


def test_unevaluated_says_checked_where_something_below_it_is() -> None:
    """A validator says of both no more than that they failed."""
    inner = {"not": {"not": {"uniqueItems": True}}}
    for keyword, value in (("unevaluatedItems", [[1, 1]]), ("unevaluatedProperties", {"a": [1, 1]})):
        schema = {keyword: inner, "type": "array" if isinstance(value, list) else "object"}
        words = {v.keyword for v in lower(schema, conformance="spec").verdicts if v.verdict == "checked"}
        assert Validator(schema).check_value(value).keyword == keyword
        assert words >= {keyword, "not"}


def test_what_the_grammar_refuses_or_takes_beside_the_judge_is_named() -> None:
    """Many more schemas: `python -m tests.schema.verdicts.fuzz`."""
    tally = Counter[str]()
    assert [*run(3_650, 120, "spec", tally)] == []
    assert tally["held"] > 80
    assert min(tally["valid, taken"], tally["invalid, refused"]) > 500


CIRCLE = {"u": {"additionalProperties": {"$ref": "#/$defs/v"}, "exclusiveMaximum": 2},
          "v": {"oneOf": [{"$ref": "#/$defs/u"}, {"type": "integer"}]}}  # fmt: skip
LATE = {"n": {"properties": {"a": {"$ref": "#/$defs/n"}, "b": {"type": "array", "uniqueItems": True}}}}


@pytest.mark.parametrize(
    ("schema", "word", "good", "bad"),
    [
        ({"$ref": "#/$defs/v", "$defs": CIRCLE}, "enforced", {"a": {"b": 3}}, {"a": {"b": -1}}),
        ({"not": {"$ref": "#/$defs/n"}, "$defs": LATE}, "checked", {"b": [1, 1]}, {"b": [1]}),
        ({"not": {"properties": {"a": {"$ref": "#/$defs/n"}}}, "$defs": LATE}, "checked", {"a": {"b": [1, 1]}}, {}),
    ],
)
def test_what_refers_to_itself_is_held_or_named(schema: Any, word: str, good: Any, bad: Any) -> None:
    lowered = lower(schema, conformance="spec")
    assert [Validator(schema).check_value(value).ok for value in (good, bad)] == [True, False]
    assert Language(lowered.grammar).accepts(good)
    assert Language(lowered.grammar).accepts(bad) == (word == "checked")
    assert {verdict.verdict for verdict in lowered.verdicts if verdict.keyword in ("oneOf", "not")} == {word}


@pytest.mark.parametrize("nested", [False, True])
def test_branches_are_compared_within_what_stands_beside_them(nested: bool) -> None:
    mail = {"a": {"type": "string", "format": "email"}}  # narrowed, so that no branch has an exact complement
    branches = {"oneOf": [{"properties": {"k": {"const": kind}, **mail}} for kind in ("x", "y", "z")]}
    schema = {"type": "object", **({"allOf": [branches]} if nested else branches)}
    words = {
        needed: {v.verdict for v in lower({**schema, "required": list(needed)}, conformance="spec").verdicts
                 if v.keyword == "oneOf"}
        for needed in ("", "k")
    }  # fmt: skip
    assert words == {"": {"checked"}, "k": {"enforced"}}


@pytest.mark.parametrize(
    ("name", "text"),
    [("regex", "(?<a>x)\\k<a>"), ("date-time", "1990-12-31T15:59:60-08:00"), ("email", f"a@{'b' * 63}.c")],
)
def test_a_format_that_is_held_in_part_does_not_tell_branches_apart(name: str, text: str) -> None:
    branches = [{"type": "string", "format": name}, {"enum": [text]}]
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "oneOf": branches}
    lowered = lower(schema, conformance="spec")
    assert not Validator(schema).check(json.dumps(text)).ok
    assert Language(lowered.grammar).accepts(text)
    assert [verdict.verdict for verdict in lowered.verdicts if verdict.keyword == "oneOf"] == ["checked"]


def test_the_negation_of_a_length_that_stays_beside_its_pattern_is_held() -> None:
    taken = {"pattern": "[A-z]+", "maxLength": 40}
    lowered = lower({"type": "string", "not": taken}, conformance="spec")
    assert {verdict.verdict for verdict in lowered.verdicts} == {"enforced"}
    language = Language(lowered.grammar)
    assert [language.accepts(text) for text in ("12", "é" * 50, "a" * 41, "a" * 40, "1a")] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(("keyword", "refused"), [({"type": "integer"}, "type"), ({"multipleOf": 2}, "multipleOf")])
def test_what_is_no_multiple_is_named_where_multiples_are(keyword: Any, refused: str) -> None:
    lowered = lower({"type": "number", "not": keyword}, conformance="spec")
    words = {(verdict.pointer, verdict.keyword): verdict.verdict for verdict in lowered.verdicts}
    assert words == {("", "type"): "enforced", ("", "not"): "enforced", ("/not", refused): "narrowed"}
    language = Language(lowered.grammar)
    assert [language.accepts_text(text) for text in ("6e-05", "1.5", "2.0", "0.99999999999999999999e-0")] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("keys", "word"), [("abcdef", "enforced"), ("abcdefg", "checked")])
def test_keys_that_imply_keys_divide_the_parameters_of_a_call(keys: str, word: str) -> None:
    """Nobody counts there: up to six keys every set of them has rules of its own."""
    schema = {"type": "object", "properties": {key: {"const": 1} for key in (*keys, "z")},
              "dependentRequired": {key: ["z"] for key in keys}}  # fmt: skip
    lowered = lower(schema, style="qwen_xml")
    assert [v.verdict for v in lowered.verdicts if v.keyword == "dependentRequired"] == [word]
    language = Language(lowered.grammar)
    last, needed = (f"<parameter={key}>\n1\n</parameter>\n" for key in (keys[-1], "z"))
    assert language.accepts_text(last + needed)
    assert language.accepts_text(last) == (word == "checked")
