"""Patterns as Node's RegExp has them (data/regex_cases.jsonl): the judge agrees, and the grammar never takes more."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from engine.errors import SchemaInvalid, SchemaRefused
from engine.judge import judge_of
from engine.request import Constraint
from engine.schema.automata.automaton import AutomatonTooLarge
from engine.schema.reading.validator import Validator
from engine.schema.regex.pattern import PatternInvalid, PatternUnsupported, from_pattern, full_match

LINES = [json.loads(line) for line in (Path(__file__).parent / "data" / "regex_cases.jsonl").read_text().splitlines()]
TEXTS: list[str] = LINES[0]["texts"]
CASES: list[dict[str, Any]] = LINES[1:]
LEGAL = [case for case in CASES if case["flags"] is not None]


@lru_cache(maxsize=1)
def judged() -> dict[str, Validator]:
    """By pattern, the JSON Schema validator of those that are not refused."""
    found = {}
    for case in LEGAL:
        try:
            found[case["pattern"]] = Validator({"pattern": case["pattern"]})
        except (SchemaInvalid, SchemaRefused):
            continue
    return found


def test_hardly_a_legal_pattern_is_refused() -> None:
    strict = [case["pattern"] for case in CASES if case["flags"] == "u"]
    refused = [pattern for pattern in strict if pattern not in judged()]
    assert len(strict) > 250
    assert all("\\" in pattern and any(name in pattern for name in ("\\1", "\\k", "\\2")) for pattern in refused)


def test_what_is_no_pattern_is_refused_as_a_schema_and_as_a_constraint() -> None:
    for case in CASES:
        if case["flags"] is None:
            with pytest.raises(SchemaInvalid):
                Validator({"pattern": case["pattern"]})
            with pytest.raises(SchemaInvalid):
                judge_of(Constraint.regex(case["pattern"]))


def test_a_pattern_in_a_schema_is_judged_as_ecma_262_has_it() -> None:
    wrong = []
    for case in LEGAL:
        validator = judged().get(case["pattern"])
        expected = {*case["whole"], *case["found"]}
        if validator is not None:
            wrong += [
                (case["pattern"], text) for text in TEXTS if validator.check_value(text).ok is not (text in expected)
            ]
    assert wrong == []


def test_a_regex_constraint_is_judged_as_ecma_262_has_it() -> None:
    wrong = []
    for case in LEGAL:
        if case["pattern"] in judged():
            judge = judge_of(Constraint.regex(case["pattern"]))
            assert judge is not None
            wrong += [
                (case["pattern"], text) for text in TEXTS if judge(text.encode()).valid is not (text in case["whole"])
            ]
    assert wrong == []


def test_keys_of_pattern_properties_are_read_the_same_way() -> None:
    wrong = []
    for case in LEGAL:
        if case["pattern"] in judged():
            validator = Validator({"patternProperties": {case["pattern"]: False}})
            expected = {*case["whole"], *case["found"]}
            wrong += [
                (case["pattern"], text) for text in TEXTS if validator.check_value({text: 1}).ok is (text in expected)
            ]
    assert wrong == []


def test_the_grammar_of_a_pattern_takes_nothing_that_ecma_262_refuses() -> None:
    wrong, narrower = [], 0
    for case in LEGAL:
        try:
            found, whole = from_pattern(case["pattern"]), full_match(case["pattern"])
        except (PatternInvalid, PatternUnsupported, AutomatonTooLarge):
            continue
        expected = {*case["whole"], *case["found"]}
        for text in TEXTS:
            if found.accepts(text) and text not in expected:
                wrong.append((case["pattern"], text))
            if whole.accepts(text) and text not in case["whole"]:
                wrong.append((case["pattern"], text))
            narrower += (text in expected) is not found.accepts(text)
    assert wrong == []
    assert narrower < 40  # what ECMA-262 and other engines read differently is left out


@pytest.mark.parametrize("text", ["a", "<a>"])
def test_an_escaped_angle_bracket_is_an_angle_bracket(text: str) -> None:
    assert Validator({"pattern": r"^\<a\>$"}).check_value(text).ok is (text == "<a>")


def test_references_through_a_key_of_pattern_properties_still_lead_there() -> None:
    schema = {
        "patternProperties": {r"^\d/~$": {"type": "integer"}},
        "properties": {"x": {"$ref": "#/patternProperties/%5E%5Cd~1~0$"}},
    }
    assert Validator(schema).check_value({"x": 1}).ok
    failed = Validator(schema).check_value({"1/~": "a"})
    assert (failed.ok, failed.pointer, failed.schema_pointer) == (False, "/1~1~0", r"/patternProperties/^\d~1~0$/type")
    assert not Validator(schema).check_value({"x": "a"}).ok


def test_two_keys_that_say_the_same_stay_two() -> None:
    schema = {"patternProperties": {r"^\d$": {"type": "integer"}, "^[0-9]$": {"maximum": 5}}}
    assert [Validator(schema).check_value({"1": value}).ok for value in (1, 9, "a")] == [True, False, False]


def test_messages_and_pointers_show_the_pattern_as_it_was_written() -> None:
    assert r"^\d+$" in (Validator({"pattern": r"^\d+$"}).check_value("a").message or "")


def test_what_only_looks_like_a_pattern_stays_as_it_is() -> None:
    schema = {"const": {"pattern": r"\d"}, "x-about": {"pattern": "("}, "properties": {"pattern": {"type": "object"}}}
    assert Validator(schema).check_value({"pattern": r"\d"}).message is not None
    assert Validator({"const": {"pattern": r"\d"}}).check_value({"pattern": r"\d"}).ok


@pytest.mark.parametrize(("pattern", "named"), [
    (r"(?:(a)|b)\1", "back-reference to group 1"),
    (r"\p{IsGreek}", "no property 'IsGreek'"),
    ("a**", "nothing to repeat"),
    (r"[a-\d]", "cannot bound a range"),
])  # fmt: skip
def test_what_is_refused_is_named_with_its_place(pattern: str, named: str) -> None:
    with pytest.raises((SchemaInvalid, SchemaRefused), match=named.replace("'", ".")) as caught:
        Validator({"items": {"pattern": pattern}})
    assert caught.value.pointer == "/items/pattern"
