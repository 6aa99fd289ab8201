"""What strings hold: the grammar writes what the judge takes, which decodes it."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest

from engine import Constraint
from engine.errors import RequestError, SchemaInvalid, SchemaRefused
from engine.schema import Validator, lower
from tests.schema.matching import Language, Sampler

SEVEN = "http://json-schema.org/draft-07/schema#"
BOUNDS = [{}, {"minLength": 7}, {"maxLength": 9}, {"minLength": 5, "maxLength": 11}, {"pattern": "^[a-m=]*$"},
          {"minLength": 400, "maxLength": 403}, {"format": "hostname"}]  # fmt: skip


def _texts(encoding: str, draw: random.Random, sizes: Iterable[int]) -> list[str]:
    """Encoded bytes of all lengths, with and without padding, and the same with a character changed."""
    encode = base64.b64encode if encoding == "base64" else base64.urlsafe_b64encode
    whole = [encode(draw.randbytes(size)).decode() for size in sizes]
    found = [text for each in whole for text in (each, each.rstrip("="), each + "=")]
    letters = "AQgwBz09+/-_=é "
    for text in [text for text in found if text]:
        at = draw.randrange(len(text))
        found.append(text[:at] + draw.choice(letters) + text[at + 1 :])
    return found


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("encoding", ["base64", "base64url"])
@pytest.mark.parametrize("draft", [SEVEN, None])
def test_what_is_written_is_what_an_encoder_writes(encoding: str, bounds: Any, draft: str | None) -> None:
    schema = {"type": "string", "contentEncoding": encoding, **bounds, **({"$schema": draft} if draft else {})}
    lowered, judge, draw = lower(schema, conformance="spec"), Validator(schema), random.Random(7)
    verdicts = {verdict.keyword: verdict.verdict for verdict in lowered.verdicts}
    assert verdicts["contentEncoding"] == ("enforced" if draft else "narrowed")
    assert "checked" not in verdicts.values()
    language, accepted = Language(lowered.grammar), 0
    for text in _texts(encoding, draw, range(299, 303) if bounds.get("minLength") == 400 else range(9)):
        ok = judge.check_value(text).ok
        accepted += ok
        assert language.accepts(text) == ok, text
    assert accepted > 1
    sampler = Sampler(lowered.grammar, 1)
    assert all(judge.check(sampler.text(30)).ok for _ in range(5) if "minLength" not in bounds)


def test_a_length_that_no_encoded_text_has_is_impossible() -> None:
    schema = {"type": ["string", "null"], "contentEncoding": "base64", "minLength": 401, "maxLength": 403}
    language = Language(lower(schema).grammar)
    assert [language.accepts(value) for value in (None, "A" * 400, "A" * 404)] == [True, False, False]


@pytest.mark.parametrize("around", ["not", "oneOf"])
def test_what_the_specification_only_annotates_decides_nothing(around: str) -> None:
    inner = {"type": "string", "contentEncoding": "base64"}
    schema: Any = {"not": inner} if around == "not" else {"oneOf": [inner, {"type": "string", "maxLength": 3}]}
    judge = Validator(schema)
    assert not judge.check_value("!").ok if around == "not" else not judge.check_value("!!!").ok
    verdicts = {verdict.keyword: verdict.verdict for verdict in lower(schema).verdicts}
    assert verdicts[around] == "checked"


def text_of(schema: Any) -> Any:
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}


@pytest.mark.parametrize("schema", [
    {"oneOf": [text_of({"type": "integer"}), {"type": "null"}]},
    {"oneOf": [text_of({"type": "integer"}), text_of({"minimum": 3}), {"const": 3}]},
    {"type": ["string", "integer"], "not": text_of({"minimum": 3})},
    {"items": {"oneOf": [{"items": text_of({"const": 1})}, {"type": "array", "minItems": 2}]}, "type": "array"},
], ids=str)  # fmt: skip
def test_what_strings_hold_decides_no_not_and_no_one_of(schema: Any) -> None:
    lowered, judge = lower(schema, conformance="spec"), Validator(schema)
    assert "checked" not in {verdict.verdict for verdict in lowered.verdicts}
    language = Language(lowered.grammar)
    values = (1, 3, None, "1", "3", "a", '"a"', "[1]", [["x"]], ["x", []], [["1"]], [["1", "x"]])
    taken = [language.accepts(value) for value in values]
    assert taken == [judge.check_value(value).ok for value in values]
    assert any(taken)


def test_branches_that_take_every_string_of_each_other_leave_none() -> None:
    with pytest.raises(SchemaRefused, match="unsatisfiable"):
        lower({"oneOf": [text_of({"type": "integer"}), text_of({"minimum": 3})]})


class _Drawn:
    """Random schemas of documents in strings, under all that could turn around what they mean."""

    LEAVES = ({"type": "integer"}, {"minimum": 3}, {"type": "string", "maxLength": 2}, {"enum": [1, "1", "a"]}, True,
              {"items": {"type": ["integer", "null"]}, "uniqueItems": True, "maxItems": 1, "type": "array"},
              )  # fmt: skip
    VALUES = (1, 3, "1", "3", "a", "abc", None, '"a"', "[1]", "[1,1]", [], [1], [1, 1], "{", '{"a":1}', {"a": 1},
              {"a": "1"}, {"a": "{"}, {"1": 1}, {"a": "a"}, ["1"], ["1", "{"], ["3", 1], '["1"]', '"1"', {}, "",
              )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def schema(self, depth: int) -> Any:
        kind = self.draw.randrange(11) if depth else 10
        if kind == 10:
            return self.draw.choice(self.LEAVES)
        one, other, third = (self.schema(depth - 1) for _ in range(3))
        return [text_of(one), text_of(other), {"oneOf": [one, other]}, {"not": one}, {"anyOf": [one, other]},
                {"if": one, "then": other, "else": third}, {"properties": {"a": one}, "required": ["a"]},
                {"allOf": [one, other]}, {"type": "array", "contains": one, "maxContains": 1},
                {"propertyNames": one}][kind]  # fmt: skip


def test_what_is_written_around_documents_in_strings_is_valid_or_named() -> None:
    held = 0
    for seed in range(12_400, 12_800):
        schema = _Drawn(seed).schema(3)
        try:
            lowered, judge = lower(schema, conformance="spec"), Validator(schema)
        except SchemaRefused:
            continue
        words = {verdict.verdict for verdict in lowered.verdicts}
        if words >= {"checked", "narrowed"} or "contentSchema" not in str(schema):
            continue
        language = Language(lowered.grammar)
        for value in _Drawn.VALUES:
            taken, ok = language.accepts(value), judge.check_value(value).ok
            assert ok or not taken or "checked" in words, (schema, value)
            assert taken or not ok or "narrowed" in words, (schema, value)
            held += taken
    assert held > 100


def test_a_document_that_another_branch_allows_as_a_string_is_named() -> None:
    number = text_of({"type": "integer"})
    schema = {"anyOf": [number, {"oneOf": [number, {"enum": ["a"]}]}]}
    lowered, judge = lower(schema, conformance="spec"), Validator(schema)
    assert judge.check_value("a").ok
    assert not Language(lowered.grammar).accepts("a")
    assert "narrowed" in {verdict.verdict for verdict in lowered.verdicts}


def test_documents_in_strings_are_read_by_grammar_and_judge_alike() -> None:
    inner = {"type": "object", "properties": {"n": {"type": "integer"}, "s": text_of({"maxLength": 2})}}
    schema = text_of({**inner, "required": ["n", "s"]})
    lowered, judge = lower(schema), Validator(schema)
    assert {verdict.verdict for verdict in lowered.verdicts} == {"enforced", "narrowed"}
    pointers = {verdict.pointer: verdict.verdict for verdict in lowered.verdicts if verdict.keyword == "maxLength"}
    assert pointers == {"/contentSchema/properties/s/contentSchema": "narrowed"}  # tight: to strings
    language = Language(lowered.grammar)
    texts = ['"ab"', '"abc"', '"\\n\\u00e9"', '"é\\ud83d\\ude00"', "ab", '"a', '"a\\q"', "1", ""]
    documents = [json.dumps({"n": 1, "s": text}, separators=(",", ":"), ensure_ascii=False) for text in texts]
    documents += ['{"n":1}', '{"n":"1","s":"1"}', '{"n":1,"s":"1","s":"1"}', '{"n":1,"s":1}', "[]", ""]
    judged = [judge.check_value(document).ok for document in documents]
    assert judged == [True, False, True, True] + [False] * 3 + [True] + [False] * 7
    for document, ok in zip(documents, judged, strict=True):
        assert language.accepts(document) == (ok and '"s":"1"' not in document), document


def test_a_document_in_a_fifth_string_is_refused_with_its_place() -> None:
    deep: Any = {"type": "integer"}
    for _ in range(4):
        deep = text_of(deep)
    assert json.loads(json.loads(json.loads(json.loads(json.loads(lower(deep).shortest))))) == 0
    for schema in (text_of(deep), {"$defs": {"a": text_of({"$ref": "#/$defs/a"})}, "$ref": "#/$defs/a"}):
        with pytest.raises(SchemaRefused, match="more than 4 levels deep") as caught:
            lower(schema)
        assert (caught.value.pointer or "").endswith("/contentSchema")


def test_a_document_in_a_string_that_cannot_be_is_no_string() -> None:
    schema = {"type": ["string", "null"], "contentMediaType": "application/json", "contentSchema": False}
    assert Language(lower(schema).grammar).accepts(None)
    with pytest.raises(SchemaRefused, match="unsatisfiable"):
        lower({"type": "array", "minItems": 1, "items": text_of({"type": "string", "enum": [1]})})


@pytest.mark.parametrize("named", ["", "#", "http://x.test/s#", "http://x.test/s", "s", "/a/s", "urn:x:y"])
def test_references_in_a_string_are_read_under_the_name_of_the_schema(named: str) -> None:
    judge = Validator(
        {"$id": named, "$ref": "#/$defs/a", "$defs": {"a": text_of({"$ref": "#/$defs/i"}), "i": {"enum": [1]}}}
    )
    assert [judge.check_value(text).ok for text in ("1", "2", "")] == [True, False, False]


@pytest.mark.parametrize(
    "wrong", [{"$ref": "#/$defs/a b"}, {"$ref": "#/nowhere"}, {"$ref": "http://x.test/t"}, {"type": "a"}]
)
@pytest.mark.parametrize("levels", [1, 3])
def test_what_is_no_schema_in_a_string_is_told_before_a_document_is_judged(wrong: Any, levels: int) -> None:
    for _ in range(levels):
        wrong = text_of({"type": "object", "properties": {"a": wrong}})
    with pytest.raises((SchemaInvalid, SchemaRefused)):
        Validator({**wrong, "$defs": {"a b": True}})


@pytest.mark.parametrize("schema", [
    {"$ref": "sub", "contentSchema": {"type": "null"}, "$defs": {"s": {"$id": "sub", **text_of(True)}}},
    {"properties": {"a": {"$id": "sub", "items": text_of({"$ref": "#/items"})}}},
    text_of({"properties": {"a": {"$id": "sub", **text_of(True)}}}),
])  # fmt: skip
def test_documents_in_strings_under_a_name_of_their_own_are_refused(schema: Any) -> None:
    with pytest.raises(SchemaRefused, match="under an \\$id of its own"):
        Validator(schema)


@pytest.mark.parametrize("whole", [None, SEVEN])
@pytest.mark.parametrize("inner", ["04", "07"])
def test_the_draft_of_the_whole_schema_says_who_judges_what_strings_hold(whole: str | None, inner: str) -> None:
    part = {"id": "http://x.test/s", "$id": "http://x.test/s", "$schema": f"http://json-schema.org/draft-{inner}/schema#",
            "type": "string", "contentEncoding": "base64"}  # fmt: skip
    schema: Any = {"$ref": "http://x.test/s", "definitions": {"s": part}}
    lowered = lower({"$schema": whole, **schema} if whole else schema, conformance="spec")
    words = {verdict.keyword: verdict.verdict for verdict in lowered.verdicts}
    assert words["contentEncoding"] == ("narrowed" if inner == "04" else "enforced")
    assert [Language(lowered.grammar).accepts(text) for text in ("AAAA", "A", "?")] == [True, False, False]


def test_a_document_that_an_older_draft_asserts_is_checked_in_a_newer_resource() -> None:
    part = {"$id": "http://x.test/s", "$schema": "https://json-schema.org/draft/2019-09/schema", **text_of(True)}
    schema = {"$schema": SEVEN, "$ref": "#/definitions/s", "definitions": {"s": part}}
    assert not Validator(schema).check_value("{:").ok
    assert {v.keyword: v.verdict for v in lower(schema).verdicts}["contentMediaType"] == "checked"


@pytest.mark.parametrize(
    "counts", [{}, {"minContains": 1}, {"maxContains": 1}, {"minContains": 1, "maxContains": 2}], ids=str
)
def test_documents_in_strings_are_judged_where_they_are_counted(counts: Any) -> None:
    judge = Validator(
        {
            "properties": {
                "a": {"contains": text_of({"properties": {"b": {"contains": text_of({"const": 1}), **counts}}})}
            }
        }
    )
    texts = [json.dumps({"b": [text]}) for text in ("1", "2")]
    assert [judge.check_value({"a": [text]}).ok for text in texts] == [True, False]


def test_a_pattern_that_must_be_counted_is_checked_in_a_string() -> None:
    pattern = {"type": "string", "pattern": "^(a{1,300}b){2,90}$"}
    outside, inside = ({v.keyword: v.verdict for v in lower(s).verdicts} for s in (pattern, text_of(pattern)))
    assert (outside["pattern"], inside["pattern"], inside["contentSchema"]) == ("enforced", "checked", "checked")


def test_in_parameters_of_calls_documents_in_strings_are_checked() -> None:
    parameters = {"type": "object", "properties": {"a": text_of({"type": "integer"}), "b": {"items": text_of({})}}}
    words = {(v.pointer, v.keyword): v.verdict for v in lower(parameters, style="qwen_xml").verdicts}
    assert words["/properties/a", "contentSchema"] == words["/properties/b/items", "contentSchema"] == "checked"


def test_without_contents_nobody_holds_them() -> None:
    schema = {"type": "object", "properties": {"contentEncoding": {"type": "string", "contentEncoding": "base64"}},
              "required": ["contentEncoding"], "default": {"contentEncoding": "base64"}}  # fmt: skip
    held, free = Constraint.json_schema(schema), Constraint.json_schema(json.dumps(schema), contents=False)
    assert held == Constraint.json_schema(schema, contents=True)
    kept = json.loads(free.source)
    assert kept == {**schema, "properties": {"contentEncoding": {"type": "string"}}}
    document = {"contentEncoding": "?"}
    for constraint, ok in ((held, False), (free, True)):
        written = json.loads(constraint.source)
        assert Validator(written).check_value(document).ok is ok
        assert Language(lower(written).grammar).accepts(document) is ok
    for wrong in (0, "no", None):
        with pytest.raises(RequestError, match="contents must be true or false"):
            Constraint.json_schema(schema, contents=wrong)  # type: ignore[arg-type]
