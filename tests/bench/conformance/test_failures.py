"""When an accepted invalid document counts as named: the verdict stands where the validator fails, or above it."""

from __future__ import annotations

import pytest

from bench.conformance.failures import failures, named, pointer_path, validator

SCHEMA = {
    "$defs": {
        "short": {"type": "string", "maxLength": 2},
        "pick": {"oneOf": [{"$ref": "#/$defs/short"}, {"type": "integer"}]},
    },
    "properties": {
        "a": {"$ref": "#/$defs/pick"},
        "b/c": {"$ref": "#/$defs/short"},
        "off": False,
        "deep": {"allOf": [{"$ref": "#/$defs/pick"}, {"not": {"const": 7}}]},
    },
    "required": ["a"],
}


def found(document):
    return failures(SCHEMA, validator(SCHEMA), document)


def verdict(pointer, keyword, word="checked"):
    return {"pointer": pointer, "keyword": keyword, "verdict": word}


@pytest.mark.parametrize(
    ("document", "one", "expected"),
    [
        ({"a": "abc"}, verdict("/$defs/pick", "oneOf"), True),
        ({"a": "abc"}, verdict("/properties/a", "$ref"), True),
        ({"a": "abc"}, verdict("/$defs/pick", "oneOf", "enforced"), False),
        ({"a": "abc"}, verdict("/properties/a", "oneOf"), False),
        ({"a": "a", "b/c": "abc"}, verdict("/$defs/short", "maxLength"), True),
        ({"a": "a", "b/c": "abc"}, verdict("/properties/b~1c", "$ref"), True),
        ({"a": "a", "b/c": "abc"}, verdict("/$defs/short", "minLength"), False),
        ({"a": "a", "off": 1}, verdict("/properties", "off"), True),
        ({"a": "a", "off": 1}, verdict("", "properties"), True),
        ({"a": "a", "deep": 7}, verdict("/properties/deep", "allOf"), True),
        ({"a": "a", "deep": 7}, verdict("/properties/deep/allOf/1", "not"), True),
        ({"a": "a", "deep": 7}, verdict("/properties/deep/allOf/0", "$ref"), False),
        ({}, verdict("", "required"), True),
    ],
)
def test_a_verdict_names_a_failure_at_its_place_or_below_it(document, one, expected):
    assert named(found(document), [one]) is expected


def test_every_failure_must_be_named():
    both = found({"b/c": "abc"})
    assert len(both) == 2
    assert not named(both, [verdict("", "required")])
    assert named(both, [verdict("", "required"), verdict("/$defs/short", "maxLength")])


def test_a_document_that_the_validator_takes_names_nothing():
    assert not named(found({"a": 1}), [verdict("", "required")])


@pytest.mark.parametrize(
    ("pointer", "path"),
    [("", ()), ("/a~1b/~0", ("a/b", "~")), ("#/a%20b", ("a b",)), ("/a%20b", ("a%20b",)), ("/", ("",))],
)
def test_pointers_are_unescaped(pointer, path):
    assert pointer_path(pointer) == path
