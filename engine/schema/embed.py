"""The JSON Schemas inside a constraint: each is lowered by us, and its verdicts point into the constraint.

Knows where Lark grammars (`%json`) and structural tags (`json_schema`) hold schemas. The text around them is
somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from engine.config import Limits
from engine.constraint import Constraint
from engine.errors import ConstraintError, SchemaInvalid, SchemaRefused
from engine.pointer import json_pointer
from engine.schema.lower import Lowered, lower
from engine.schema.reading.lark_source import inline_schemas, replace_schemas
from engine.schema.reading.parameter_text import STYLES, Style
from engine.schema.reading.validator import Validator
from engine.schema.rules.grammar import Grammar
from engine.schema.rules.layout import GAP
from engine.schema.verdicts.verdict import Verdict

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Part:
    """One JSON Schema of a constraint. `pointer` is where the schema stands in it: a JSON pointer into a structural
    tag, `/%json/N` for the Nth schema of a Lark grammar, empty for a constraint that is one schema."""

    pointer: str
    schema: Any
    style: Style = "json"
    any_order: bool = False
    max_whitespace: int | None = None
    path: Path = field(default=(), repr=False)
    """Structural tags: the way to the format that holds the schema."""

    def lower(self, constraint: Constraint, limits: Limits | None) -> Lowered:
        """Its grammar and verdicts, pointers starting at the constraint. Raises what `lower` raises, likewise."""
        compact = self.max_whitespace is not None and self.max_whitespace < GAP
        try:
            lowered = lower(
                self.schema,
                whitespace="compact" if compact else constraint.whitespace,
                conformance=constraint.conformance,
                any_order=self.any_order,
                style=self.style,
                limits=limits,
            )
        except ConstraintError as error:
            raise self.place(error, constraint) from None
        return replace(lowered, verdicts=tuple(map(self._placed, lowered.verdicts)))

    def place(self, error: ConstraintError, constraint: Constraint) -> ConstraintError:
        """An error about the schema as one about the constraint."""
        if constraint.is_json:
            return error
        return type(error)(error.message, param=constraint.kind, pointer=self.pointer + (error.pointer or ""))

    def _placed(self, verdict: Verdict) -> Verdict:
        """The verdict as one about the constraint."""
        return replace(verdict, pointer=self.pointer + verdict.pointer)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A constraint with grammars in place of its schemas. `source`: the Lark text, or the tag as a plain object.

    A schema has become a name out of `grammars`: `@name` in a Lark text, the text of a grammar format in a tag.
    """

    source: Any
    verdicts: tuple[Verdict, ...]
    parts: tuple[Part, ...]
    grammars: Mapping[str, Grammar]


def parts(constraint: Constraint) -> tuple[Part, ...]:
    """The JSON Schemas of a constraint of any kind, in the order of its source. SchemaInvalid where one is none.

    Lowers and compiles nothing; linear in the source.
    """
    if constraint.is_json:
        return (Part("", json.loads(constraint.source)),)
    if constraint.kind == "lark":
        found = inline_schemas(constraint.source)
        return tuple(Part(f"/%json/{number}", part.schema) for number, part in enumerate(found))
    if constraint.kind == "structural_tag":
        return tuple(_part(path, part) for path, part in _formats(json.loads(constraint.source), ()))
    return ()


def refuse_broken(constraint: Constraint) -> None:
    """SchemaInvalid or SchemaRefused, with the place, for a schema inside the constraint that no judge can read."""
    for part in parts(constraint):
        try:
            Validator(part.schema)
        except ConstraintError as error:
            raise part.place(error, constraint) from None


def embed(constraint: Constraint, limits: Limits | None = None) -> Embedded:
    """Lower every schema of a Lark grammar or structural tag. Raises what `lower` raises, the pointer starting at
    the constraint, and SchemaRefused for what the front end does not write (another style, `excludes`)."""
    found = parts(constraint)
    lowered = [part.lower(constraint, limits) for part in found]
    verdicts = tuple(verdict for one in lowered for verdict in one.verdicts)
    grammars = [one.grammar for one in lowered]
    if constraint.kind == "lark":
        names = _unused_names(constraint.source, len(found))
        calls = [f"@{name} " for name in names]
        text = replace_schemas(constraint.source, inline_schemas(constraint.source), calls)
        return Embedded(text, verdicts, found, dict(zip(names, grammars, strict=True)))
    tag = json.loads(constraint.source)
    if not isinstance(tag, dict):
        raise SchemaInvalid("structural_tag must be a JSON object", param="structural_tag")
    names = [f"%json {number}" for number in range(len(found))]
    formats = {part.path: {"type": "grammar", "grammar": name} for part, name in zip(found, names, strict=True)}
    source = {"type": "structural_tag", **_replaced(tag, (), formats)}
    return Embedded(source, verdicts, found, dict(zip(names, grammars, strict=True)))


def _unused_names(source: str, count: int) -> list[str]:
    stem = "json"
    while f"@{stem}" in source:
        stem += "-"
    return [f"{stem}{number}" for number in range(count)]


def _part(path: Path, given: Mapping[str, Any]) -> Part:
    schema, whitespace = given["json_schema"], given.get("max_whitespace_cnt")
    style = "qwen_xml" if given.get("type") == "qwen_xml_parameter" else given.get("style", "json")
    if not isinstance(schema, dict | bool):
        raise _wrong(SchemaInvalid, "json_schema must be an object or a boolean", *path, "json_schema")
    if style not in STYLES:
        message = f"the style {style!r} is not written here; use {' or '.join(STYLES)}"
        raise _wrong(SchemaRefused, message, *path, "style")
    if given.get("excludes"):
        message = 'excludes beside a json_schema is not held; say it in the schema: {"not": {"pattern": ...}}'
        raise _wrong(SchemaRefused, message, *path, "excludes")
    if whitespace is not None and (isinstance(whitespace, bool) or not isinstance(whitespace, int)):
        raise _wrong(SchemaInvalid, "max_whitespace_cnt must be an integer", *path, "max_whitespace_cnt")
    pointer = json_pointer([*path, "json_schema"])
    return Part(pointer, schema, style, given.get("any_order") is True, whitespace, path)


def _wrong(kind: type[ConstraintError], message: str, *path: str | int) -> ConstraintError:
    return kind(message, param="structural_tag", pointer=json_pointer(path))


def _formats(part: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every format that holds a schema, with its path; schemas themselves are not looked into."""
    if isinstance(part, dict):
        if "json_schema" in part and part.get("type", "json_schema") in ("json_schema", "qwen_xml_parameter"):
            yield path, part
            return
        for key, value in part.items():
            yield from _formats(value, (*path, key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _formats(value, (*path, index))


def _replaced(part: Any, path: Path, formats: Mapping[Path, Any]) -> Any:
    """A copy with other formats at some paths."""
    if path in formats:
        return formats[path]
    if isinstance(part, list):
        return [_replaced(value, (*path, index), formats) for index, value in enumerate(part)]
    if isinstance(part, dict):
        return {key: _replaced(value, (*path, key), formats) for key, value in part.items()}
    return part
