"""One resolver: what a reference points to, how often it is applied, and where it runs in a circle, however spelled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine import Constraint
from engine.config import Limits
from engine.errors import LimitExceeded, SchemaInvalid, SchemaRefused
from engine.grammar.compile.screen import screen, screen_parts
from engine.schema import Validator, lower
from engine.schema.reading.reference import Schemas
from tests.schema.matching import Language

D2019 = "https://json-schema.org/draft/2019-09/schema"
D7 = "http://json-schema.org/draft-07/schema#"


def screened(constraint: Constraint) -> None:
    """What a constraint passes before it is compiled: its text here, its references in a worker."""
    screen(constraint, Limits())
    screen_parts(constraint, Limits())


def spellings(doubled: Any, last: dict[str, Any], count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Chains d0 -> d1 -> ... of `count` definitions that each refer to the next one; `doubled(ref)` is a definition."""

    def chain(begin: str, reference: str, keyword: str = "$ref", **more: Any) -> dict[str, Any]:
        names = [begin.format(i) for i in range(count + 1)]
        own = [{key: value.format(i) for key, value in more.items()} for i in range(count + 1)]
        defs = {names[i]: {**own[i], **doubled({keyword: reference.format(i + 1)})} for i in range(count)}
        return {"$defs": {**defs, names[count]: {**own[count], **last}}, keyword: reference.format(0)}

    yield "plain", chain("d{}", "#/$defs/d{}")
    yield "percent-encoded", chain("d{}", "#/%24defs/%64{}")
    yield "tilde", chain("d/{}", "#/$defs/d~1{}")
    yield "percent-encoded tilde", chain("d/{}", "#/$defs/d%7E1{}")
    yield "anchor", chain("d{}", "#a{}", **{"$anchor": "a{}"})
    yield "dynamic anchor", chain("d{}", "#a{}", "$dynamicRef", **{"$dynamicAnchor": "a{}"})
    yield "id", {"$id": "http://x.test/y/", **chain("d{}", "d{}", **{"$id": "d{}"})}
    yield "absolute id", chain("d{}", "http://x.test/d{}", **{"$id": "http://x.test/d{}"})
    yield "id and pointer", {"$id": "http://x.test/y", **chain("d{}", "y#/$defs/d{}")}
    items = [doubled({"$ref": f"#/$defs/all/anyOf/{i + 1}"}) for i in range(count)]
    yield "list index", {"$defs": {"all": {"anyOf": [*items, last]}}, "$ref": "#/$defs/all/anyOf/0"}
    plain = chain("d{}", "#/definitions/d{}")
    yield "definitions", {"$schema": D7, "definitions": plain["$defs"], "$ref": plain["$ref"]}
    unknown = chain("d{}", "#/x-y/d{}")
    yield "unknown keyword", {"x-y": unknown["$defs"], "$ref": unknown["$ref"]}
    yield "draft 2019-09", {"$schema": D2019, **chain("d{}", "#a{}", **{"$anchor": "a{}"})}


def all_of(ref: dict[str, Any]) -> dict[str, Any]:
    return {"allOf": [ref, ref]}


KINDS = {
    "allOf": all_of,
    "anyOf": lambda ref: {"anyOf": [ref, {"not": ref}]},
    "if": lambda ref: {"if": ref, "then": ref},
    "dependentSchemas": lambda ref: {"dependentSchemas": {"a": ref, "b": ref}},
}
NAMES = [name for name, _ in spellings(all_of, {}, 1)]


@pytest.mark.parametrize("spelling", NAMES)
def test_a_reference_means_the_same_to_grammar_and_judge_however_it_is_spelled(spelling: str) -> None:
    schema = dict(spellings(all_of, {"type": "string", "maxLength": 2}, 3))[spelling]
    language, judge = Language(lower(schema).grammar), Validator(schema)
    for document in ("ab", "abc", 1):
        assert language.accepts(document) is judge.check_value(document).ok is (document == "ab")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spelling", NAMES)
def test_references_that_double_are_counted_however_they_are_spelled(spelling: str, kind: str) -> None:
    small, large = (dict(spellings(KINDS[kind], {"type": "string"}, n))[spelling] for n in (3, 40))
    screened(Constraint.json_schema(small))
    with pytest.raises(LimitExceeded, match="schemas apply to one value"):
        screened(Constraint.json_schema(large))


@pytest.mark.parametrize("kind", ["lark", "structural_tag"])
def test_they_are_counted_inside_other_kinds_with_their_place(kind: str) -> None:
    schema = dict(spellings(all_of, {}, 40))["percent-encoded"]
    text = Constraint.json_schema(schema).source
    made = {
        "lark": lambda: Constraint.lark(f"start: %json true %json {text}"),
        "structural_tag": lambda: Constraint.structural_tag({"format": {"type": "json_schema", "json_schema": schema}}),
    }[kind]()
    with pytest.raises(LimitExceeded) as caught:
        screened(made)
    assert caught.value.pointer == {"lark": "/%json/1", "structural_tag": "/format/json_schema"}[kind]
    assert caught.value.param == kind


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/n", "$defs": {"n": {"$ref": "#/$defs/n"}}},
        {"$ref": "#/%24defs/n", "$defs": {"n": {"$ref": "#/$defs/%6E"}}},
        {"$ref": "#n", "$defs": {"n": {"$anchor": "n", "$ref": "#n"}}},
        {"$id": "http://x.test/", "$ref": "n", "$defs": {"n": {"$id": "n", "$ref": "/n"}}},
        {"$dynamicAnchor": "n", "allOf": [{"$dynamicRef": "#n"}]},
        {"$schema": D2019, "$recursiveRef": "#"},
        {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
        {"properties": {"x": {"oneOf": [{"$ref": "#/properties/x"}]}}},
        {"not": {"$ref": "#"}},
        {"if": {"$ref": "#"}},
        {"dependentSchemas": {"a": {"$ref": "#"}}},
        {"definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"allOf": [{"$ref": "#/definitions/a"}]}},
         "items": {"$ref": "#/definitions/a"}, "$schema": D7},
    ],
)  # fmt: skip
def test_a_circle_without_a_base_is_refused_by_name(schema: Any) -> None:
    for attempt in (lambda: lower(schema), lambda: screened(Constraint.json_schema(schema))):
        with pytest.raises(SchemaRefused, match=r"a circle of references without a base: .* -> "):
            attempt()


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"$ref": "#"}}},
        {"anyOf": [{"type": "integer"}, {"items": {"$ref": "#"}}]},
        {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "integer"}}},
        {"$defs": {"nobody": {"$ref": "#/$defs/nobody"}}, "type": "integer"},
        {"$schema": D2019, "$recursiveAnchor": True, "additionalProperties": {"$recursiveRef": "#"}},
        {"$recursiveRef": "#", "type": "integer"},
        {"$schema": D2019, "$dynamicRef": "#", "type": "integer"},
        {"$schema": D7, "$recursiveRef": "#", "$dynamicRef": "#", "type": "integer"},
    ],
)
def test_other_circles_are_recursion(schema: Any) -> None:
    lower(schema)
    screened(Constraint.json_schema(schema))


@pytest.mark.parametrize("reference", ["#/allOf/-1", "#/allOf/00", "#/allOf/ 0", "#/allOf/1", "#/nothing", "#nothing"])
def test_what_points_nowhere_is_refused(reference: str) -> None:
    with pytest.raises(SchemaInvalid):
        lower({"allOf": [True], "properties": {"a": {"$ref": reference}}})


def test_what_looks_like_an_id_inside_a_value_names_nothing() -> None:
    for value in ({"$id": "x"}, {"$anchor": "x"}, {"$dynamicAnchor": "x"}):
        with pytest.raises((SchemaInvalid, SchemaRefused)):
            lower({"enum": [value, 1], "const": value, "properties": {"a": {"$ref": "x" if "$id" in value else "#x"}}})


def test_resources_with_dynamic_anchors_times_references_to_them_are_bounded() -> None:
    resources = {f"r{i}": {"$id": f"http://x.test/{i}", "$dynamicAnchor": "n"} for i in range(400)}
    references = {f"p{i}": {"$dynamicRef": "#n"} for i in range(400)}
    schema = {"$dynamicAnchor": "n", "$defs": resources, "properties": references}
    schemas = Schemas(schema, depth=128, nodes=50_000)
    with pytest.raises(LimitExceeded, match="dynamic"):
        list(map(schemas.references, schemas.locations))
