"""Where subschemas stand and which keywords assert something, by draft. Knows names only, no meanings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.schema.reading.dialect import Draft

ONE = ("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then")
ONE_2019 = ("contentSchema", "unevaluatedItems", "unevaluatedProperties")
LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
MAPS = ("$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties")

NUMBER = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
STRING = ("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType")
ARRAY = (
    "prefixItems", "items", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains", "minContains",
    "maxContains", "unevaluatedItems",
)  # fmt: skip
OBJECT = (
    "properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
    "maxProperties", "dependencies", "dependentRequired", "dependentSchemas", "unevaluatedProperties",
)  # fmt: skip
GENERAL = ("type", "enum", "const", "allOf", "anyOf", "oneOf", "not", "if", "then", "else")
REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

_SINCE: dict[str, Draft] = {
    "contentEncoding": Draft.D6, "contentMediaType": Draft.D6,
    "const": Draft.D6, "contains": Draft.D6, "propertyNames": Draft.D6,
    "if": Draft.D7, "then": Draft.D7, "else": Draft.D7,
    "minContains": Draft.D2019, "maxContains": Draft.D2019, "dependentRequired": Draft.D2019,
    "dependentSchemas": Draft.D2019, "unevaluatedItems": Draft.D2019, "unevaluatedProperties": Draft.D2019,
    "prefixItems": Draft.D2020, "$dynamicRef": Draft.D2020, "$recursiveRef": Draft.D2019,
}  # fmt: skip
_UNTIL: dict[str, Draft] = {
    "additionalItems": Draft.D2019, "$recursiveRef": Draft.D2019,
    "contentEncoding": Draft.D7, "contentMediaType": Draft.D7,
}  # fmt: skip

_FORMAT_SINCE: dict[str, Draft] = {
    "json-pointer": Draft.D6, "uri-reference": Draft.D6, "uri-template": Draft.D6,
    "idn-hostname": Draft.D7, "iri": Draft.D7, "iri-reference": Draft.D7, "relative-json-pointer": Draft.D7,
    "duration": Draft.D2019, "uuid": Draft.D2019,
}  # fmt: skip


def asserts_format(draft: Draft, name: str) -> bool:
    """Whether the judge asserts `format: name` in this draft; a test compares it with jsonschema-rs."""
    return _FORMAT_SINCE.get(name, Draft.D4) <= draft


ASSERTIONS: tuple[str, ...] = (*REFERENCES, *GENERAL, *NUMBER, *STRING, *ARRAY, *OBJECT)


def speaks(draft: Draft, keyword: str) -> bool:
    """Whether `keyword` means anything in `draft`."""
    return _SINCE.get(keyword, Draft.D4) <= draft <= _UNTIL.get(keyword, Draft.D2020)


def asserted(schema: dict[str, Any], draft: Draft) -> list[str]:
    """The keywords of one schema object that can make a document invalid, in a fixed order."""
    if "$ref" in schema and draft.ref_hides_siblings:
        return ["$ref"]
    return [keyword for keyword in ASSERTIONS if keyword in schema and speaks(draft, keyword)]


def subschemas(schema: dict[str, Any], draft: Draft) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Direct subschemas with their path from `schema`; anything that cannot be one is left out."""
    if "$ref" in schema and draft.ref_hides_siblings:
        names: tuple[str, ...] = ("definitions", "$defs")
    else:
        names = tuple(schema)
    for name in names:
        value = schema.get(name)
        if isinstance(value, dict) and name in MAPS:
            yield from (((name, key), part) for key, part in value.items() if isinstance(part, dict | bool))
        elif isinstance(value, list) and (name in LISTS or name == "items"):
            yield from (((name, str(i)), part) for i, part in enumerate(value) if isinstance(part, dict | bool))
        elif isinstance(value, dict | bool) and name in (*ONE, *ONE_2019):
            yield (name,), value
