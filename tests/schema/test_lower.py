"""Lowering says what the schema says: in spec exactly, in tight a subset that the validator accepts."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import LimitExceeded, SchemaInvalid, SchemaRefused
from engine.schema import Validator, lower
from tests.schema.matching import Language, Sampler, compact
from tests.schema.verdicts.fuzz import DRAFTS

NODE = {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#"}}, "required": ["v"]}

CASES: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("type list", {"type": ["string", "null"]}, ["", None, "a\nb"], [1, True, {}, []]),
    ("any order, extra keys", {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
     "required": ["a"]}, [{"a": "x"}, {"b": 1, "a": ""}, {"a": "", "z": [1, {"q": None}]}, {"a": "", "ab": 1}],
     [{}, {"b": 1}, {"a": 1}, {"a": "", "b": "c"}]),
    ("closed", {"type": "object", "properties": {"a": True}, "additionalProperties": False}, [{}, {"a": [1]}],
     [{"b": 1}, {"a": 1, "b": 2}]),
    ("additional schema", {"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"a": 1, "b": 2}],
     [{"a": "x"}]),
    ("patternProperties", {"type": "object", "patternProperties": {"^n_": {"type": "integer"}},
     "properties": {"n_max": {"maximum": 9}}}, [{"n_a": 1, "x": "y"}, {"n_max": 9}], [{"n_a": "x"}, {"n_max": 10}]),
    ("propertyNames", {"type": "object", "propertyNames": {"maxLength": 2}}, [{"ab": 1}, {}], [{"abc": 1}]),
    ("counts of members", {"type": "object", "maxProperties": 2}, [{}, {"a": 1, "b": 2}], [{"a": 1, "b": 2, "c": 3}]),
    ("recursion", NODE, [{"v": 1}, {"v": 1, "next": {"v": 2, "next": {"v": 3}}}], [{"v": 1, "next": {}}]),
    ("tuple", {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False},
     [[], ["a"], ["a", 1]], [["a", 1, 2], [1]]),
    ("item counts", {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 3},
     [[None] * 2, [None] * 3], [[None], [None] * 4, []]),
    ("contains", {"type": "array", "contains": {"type": "string"}, "minContains": 2, "maxContains": 3},
     [["a", "b"], [1, "a", "b", "c"]], [["a"], ["a"] * 4, []]),
    ("enum of anything", {"enum": [1, "a", None, [1, {"x": 2}], {"k": []}]}, [1, "a", None, [1, {"x": 2}], {"k": []}],
     [2, "b", [1], {"k": [1]}, {}]),
    ("const and neighbours", {"const": "abc", "minLength": 3}, ["abc"], ["ab", 1]),
    ("number range", {"type": "number", "minimum": -1.5, "exclusiveMaximum": 10}, [-1.5, 0, 9.99], [-1.6, 10, 11]),
    ("integer", {"type": "integer", "multipleOf": 3, "maximum": 12}, [0, 3, -9, 12], [1, 15, 1.5]),
    ("allOf merges", {"allOf": [{"type": "string", "minLength": 2}, {"pattern": "^a"}, {"maxLength": 3}]},
     ["ab", "abc"], ["a", "abcd", "bc"]),
    ("siblings of a reference", {"$ref": "#/$defs/s", "maxLength": 2, "$defs": {"s": {"type": "string"}}}, ["ab"],
     ["abc", 1]),
    ("oneOf by requirement", {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
     [{"a": 1}, {"b": 1, "c": 2}], [{}, {"a": 1, "b": 2}]),
    ("oneOf of scalars", {"oneOf": [{"type": "integer", "minimum": 2}, {"type": "integer", "maximum": 4}]},
     [1, 5, -7], [2, 3, 4, "x"]),
    ("not of an object", {"type": "object", "not": {"properties": {"a": {"type": "string"}}, "required": ["a"]}},
     [{}, {"a": 1}, {"b": "x"}], [{"a": "x"}, {"b": 1, "a": "x"}]),
    ("not of an array", {"type": "array", "not": {"items": {"type": "string"}}}, [[1], ["a", 1]], [[], ["a"]]),
    ("if then else", {"type": "object", "if": {"properties": {"k": {"const": 1}}, "required": ["k"]},
     "then": {"required": ["x"]}, "else": {"required": ["y"]}}, [{"k": 1, "x": 1}, {"y": 1}, {"k": 2, "y": 0}],
     [{"k": 1}, {"k": 1, "y": 2}, {}]),
    ("dependent", {"type": "object", "dependentRequired": {"a": ["b"]},
     "dependentSchemas": {"c": {"maxProperties": 1}}},
     [{}, {"a": 1, "b": 2}, {"c": 1}], [{"a": 1}, {"c": 1, "d": 2}]),
    ("unevaluatedProperties", {"type": "object", "properties": {"a": True}, "unevaluatedProperties": False,
     "anyOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]}, {"properties": {"c": True}}]},
     [{"a": 1, "b": 1}, {"c": 1}, {"b": 1, "c": 2}], [{"z": 1}, {"b": 2}]),
    ("unevaluatedItems", {"type": "array", "prefixItems": [True], "contains": {"type": "string"},
     "unevaluatedItems": False}, [[1, "a"], ["x"]], [[1, 2, "a"]]),
    ("contains of draft 2019-09", {"$schema": "https://json-schema.org/draft/2019-09/schema", "contains": {"const": 1},
     "unevaluatedItems": {"type": "string"}, "type": "array"}, [[1], [1, "a", 1]], [["a"], [1, 2]]),
    ("keys with quotes", {"type": "object", "properties": {'a"b': {"const": 1}, "c\\d": True}, "required": ['a"b']},
     [{'a"b': 1}, {"c\\d": 0, 'a"b': 1, 'a"': 2}], [{'a"b': 2}, {}]),
    ("draft 4 bounds", {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 1,
     "exclusiveMinimum": True}, [2], [1]),
    ("draft 7 reference hides siblings", {"$schema": "http://json-schema.org/draft-07/schema#",
     "properties": {"a": {"$ref": "#/definitions/s", "maxLength": 1}}, "definitions": {"s": {"type": "string"}}},
     [{"a": "xyz"}], [{"a": 1}]),
    ("many required in any order", {"type": "object", "required": list("abcdefg")},
     [dict.fromkeys("gfedcba", 1)], [dict.fromkeys("gfedcb", 1)]),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "valid", "invalid"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_spec_accepts_exactly_the_valid_documents(schema: Any, valid: list[Any], invalid: list[Any]) -> None:
    judge, language = Validator(schema), Language(lower(schema, conformance="spec").grammar)
    for document in valid:
        assert judge.check_value(document).ok
        assert language.accepts(document), document
    for document in invalid:
        assert not judge.check_value(document).ok
        assert not language.accepts(document), document


@pytest.mark.parametrize("whitespace", ["compact", "flexible"])
@pytest.mark.parametrize(
    "schema",
    [pytest.param(case[1], id=case[0], marks=pytest.mark.slow if case[0] == "recursion" else ()) for case in CASES],
)
def test_every_text_of_a_tight_grammar_is_valid(schema: Any, whitespace: Any) -> None:
    lowered = lower(schema, conformance="tight", whitespace=whitespace)
    judge, sampler = Validator(schema), Sampler(lowered.grammar, 7)
    assert judge.check(lowered.shortest).ok
    assert lowered.min_bytes == len(lowered.shortest.encode())
    for _ in range(25):
        text = sampler.text(60)
        checked = judge.check(text)
        assert checked.ok, (text, checked.message)


@pytest.mark.parametrize("schema", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_every_text_of_a_spec_grammar_is_valid(schema: Any) -> None:
    judge, sampler = Validator(schema), Sampler(lower(schema, conformance="spec").grammar, 11)
    for _ in range(25):
        text = sampler.text(60)
        checked = judge.check(text)
        assert checked.ok, (text, checked.message)


def test_tight_writes_declared_keys_in_schema_order_and_no_others() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "required": ["b"]}
    language = Language(lower(schema).grammar)
    assert language.accepts({"a": None, "b": None})
    assert language.accepts({"b": None})
    assert not language.accepts({"b": None, "a": None})
    assert not language.accepts({"b": None, "c": None})


def test_flexible_whitespace_is_accepted_and_bounded() -> None:
    grammar = lower({"type": "object", "properties": {"a": {"type": "array"}}}, whitespace="flexible").grammar
    language = Language(grammar)
    assert language.accepts_text('{\n  "a": [\n    1,\n    2\n  ]\n}')
    assert not language.accepts_text("{" + " " * 1000 + "}")


def test_many_optional_properties_cost_one_rule_each() -> None:
    sizes = []
    for count in (100, 200, 400):
        schema = {"type": "object", "properties": {f"p{i}": {"type": "boolean"} for i in range(count)}}
        rules = lower(schema).grammar.rules
        sizes.append(sum(len(rule.alternatives) for rule in rules.values()))
    assert sizes[2] - sizes[1] <= 2.2 * (sizes[1] - sizes[0])


def test_any_number_of_keys_can_be_skipped_in_schema_order() -> None:
    names = [f"p{i}" for i in range(5_000)]
    schema = {"type": "object", "properties": {key: {"type": "null"} for key in names}, "required": ["p2500"]}
    grammar = lower(schema).grammar
    language = Language(grammar)
    assert len(grammar.rules) < 2_000
    assert language.accepts(dict.fromkeys(["p2500", "p4999"]))
    assert language.accepts(dict.fromkeys(["p7", "p2499", "p2500", "p4000"]))
    assert not language.accepts(dict.fromkeys(["p7", "p2501"]))
    assert not language.accepts(dict.fromkeys(["p2500", "p7"]))


def test_equal_parts_of_two_schemas_are_equal_rules() -> None:
    part = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}}
    first = lower({"type": "array", "items": part}).grammar.rules
    second = lower({"type": "object", "properties": {"who": part}, "required": ["who"]}).grammar.rules
    inner = {name for name, rule in first.items() if rule.lookahead is not None}
    shared = {name for name in inner if second.get(name) == first[name]}
    assert len(shared) > len(inner) * 0.7


def test_lowering_is_deterministic() -> None:
    schema = CASES[1][1]
    assert lower(schema).grammar == lower(schema).grammar


@pytest.mark.parametrize("schema", [False, {"enum": []}, {"type": "string", "allOf": [{"type": "integer"}]},
                                    {"type": "array", "minItems": 1, "items": False},
                                    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "required": ["x"],
                                     "properties": {"x": {"$ref": "#/$defs/a"}}}}}])  # fmt: skip
def test_unsatisfiable_schemas_are_refused(schema: Any) -> None:
    with pytest.raises(SchemaRefused, match="unsatisfiable"):
        lower(schema)


def test_what_is_no_schema_is_invalid_and_remote_references_are_refused() -> None:
    with pytest.raises(SchemaInvalid):
        lower({"type": "strin"})
    with pytest.raises(SchemaInvalid):
        lower({"$ref": "#/$defs/missing"})
    with pytest.raises(SchemaRefused, match="remote"):
        lower({"$ref": "https://example.com/schema"})


def _tower(depth: int) -> Any:
    schema: Any = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("schema", [
    _tower(300),
    {"allOf": [{"anyOf": [{"properties": {f"k{i}{j}": {"const": j}}, "required": [f"k{i}{j}"]} for j in range(6)]}
               for i in range(8)]},
    {"type": "object", "properties": {f"p{i}": {"type": "array", "items": {"enum": [f"{i}-{j}" for j in range(40)]}}
                                      for i in range(150)}},
    {"format": "email", "minLength": 1, "oneOf": [{"maxLength": 0}, {"format": "regex"}]},
])  # fmt: skip
def test_exploding_schemas_end_in_a_typed_error_or_a_grammar(schema: Any) -> None:
    try:
        lowered = lower(schema, conformance="spec")
    except LimitExceeded:
        return
    assert lowered.min_bytes > 0


@pytest.mark.parametrize("names", [["a", "b"], ["name", "size"], ["^", "_x", "a^b"], ["", "é", "日本", "\U0001f600"]])
def test_no_other_key_spells_a_declared_one(names: list[str]) -> None:
    """A required key with a wrong value has no second way in, whatever else is missing."""
    schema = {"type": "object", "properties": {name: {"type": "null"} for name in names}, "required": names}
    language = Language(lower(schema, conformance="spec").grammar)
    right = dict.fromkeys(names)
    assert language.accepts(right)
    for name in names:
        assert language.accepts({f"{name}^": 1, **right})
        assert not language.accepts({**right, name: 1})
        assert not language.accepts_text(compact({name: 1})[:-1] + "," + compact(right)[1:])


YOUNGER = {
    6: {"const": 7, "contains": False, "propertyNames": False},
    7: {"if": True, "then": False},
    2019: {"minContains": 2, "contains": {"const": 1}, "dependentRequired": {"a": ["b"]},
           "dependentSchemas": {"c": False}, "unevaluatedProperties": False, "unevaluatedItems": False},
    2020: {"prefixItems": [False], "$dynamicRef": "#/definitions/no"},
}  # fmt: skip


@pytest.mark.parametrize(("draft", "since"), [(4, 6), (4, 7), (4, 2019), (4, 2020), (6, 7), (7, 2019), (2019, 2020)])
def test_a_keyword_of_a_later_draft_means_nothing(draft: int, since: int) -> None:
    schema = {"$schema": DRAFTS[draft], **YOUNGER[since], "definitions": {"no": {"not": {}}}}
    judge, language = Validator(schema), Language(lower(schema, conformance="spec").grammar)
    for document in (None, 7, "a", [], [1], [1, 2], {}, {"a": 1}, {"c": 1}):
        assert judge.check_value(document).ok == language.accepts(document), document


def test_an_integer_of_draft_4_is_written_without_a_fraction_even_if_it_is_the_only_one() -> None:
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "type": "integer", "minimum": 3, "maximum": 3}
    language = Language(lower(schema, conformance="spec").grammar)
    assert language.accepts_text("3")
    assert not language.accepts_text("3.0")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    assert Language(lower(schema, conformance="spec").grammar).accepts_text("3.0")
