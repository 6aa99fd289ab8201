"""Schemas inside a structural tag: each becomes a grammar of ours, and its verdicts point into the tag.

Knows where XGrammar's structural tags hold a `json_schema` format. Knows nothing of the tags' text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.config import Limits
from engine.errors import ConstraintError
from engine.schema.lower import lower
from engine.schema.validator import json_pointer
from engine.schema.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Embedded:
    """The tag with grammars in place of schemas; `schemas` holds the originals by pointer, for the post-check."""

    tag: Any
    verdicts: tuple[Verdict, ...]
    schemas: dict[str, Any]


def embed(tag: Any, *, conformance: Literal["tight", "spec"] = "tight", limits: Limits | None = None) -> Embedded:
    """Replace every `json_schema` format by a `grammar` format. Styles other than JSON stay, named `checked`.

    Raises what `lower` raises, the pointer starting at the tag.
    """
    verdicts: list[Verdict] = []
    schemas: dict[str, Any] = {}
    changed = tag
    for path, part in list(_formats(tag, ())):
        place = json_pointer([*path, "json_schema"])
        schemas[place] = part["json_schema"]
        if part.get("style", "json") != "json":
            reason = f"the style {part['style']!r} is written by XGrammar's own converter"
            verdicts.append(Verdict(place, "json_schema", "checked", reason, "use the style json"))
            continue
        lowered = _lower_at(place, part["json_schema"], conformance, limits)
        verdicts.extend(replace(verdict, pointer=place + verdict.pointer) for verdict in lowered.verdicts)
        changed = _put(changed, path, {"type": "grammar", "grammar": lowered.grammar.to_ebnf()})
    return Embedded(changed, tuple(verdicts), schemas)


def _lower_at(place: str, schema: Any, conformance: Literal["tight", "spec"], limits: Limits | None) -> Any:
    try:
        return lower(schema, conformance=conformance, limits=limits)
    except ConstraintError as error:
        raise type(error)(error.message, param="structural_tag", pointer=place + (error.pointer or "")) from None


def _formats(part: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Every `json_schema` format with its path; schemas themselves are not looked into."""
    if isinstance(part, dict):
        if part.get("type") == "json_schema" and isinstance(part.get("json_schema"), dict | bool):
            yield path, part
            return
        for key, value in part.items():
            yield from _formats(value, (*path, key))
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _formats(value, (*path, index))


def _put(whole: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of `whole` with `value` at `path`."""
    if not path:
        return value
    head, *rest = path
    if isinstance(whole, list):
        return [_put(part, tuple(rest), value) if index == head else part for index, part in enumerate(whole)]
    return {key: _put(part, tuple(rest), value) if key == head else part for key, part in whole.items()}
