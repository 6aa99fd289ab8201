"""Pointers into documents that meet no value of a schema. Generous: only what cannot be is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from engine.pointer import steps, unescape

_WITHIN = ("allOf", "anyOf", "oneOf")
_BESIDE = ("if", "then", "else")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OF_OBJECTS = ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties")
_OF_ARRAYS = ("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains")
_OF_VALUES = ("const", "enum")
_SPEAKING = (*_OF_OBJECTS, *_OF_ARRAYS, *_WITHIN, *_REFERENCES, "then", "else")
"""Keywords beside which a part says what its members are, or leaves it to others."""


_MOST = 20_000
"""Parts that are looked at, 0.2 s; behind them anything may be."""


@lru_cache(maxsize=64)
def first_unmet(source: str, pointers: tuple[str, ...], *, closed: bool) -> str | None:
    """The first of these that meets nothing. `source` is a schema's JSON text; `closed`: objects that declare
    properties have no others. None too for what is no schema, or too much to look at: whoever compiles it tells."""
    try:
        reach = _Reach(json.loads(source), closed)
        return next((pointer for pointer in pointers if not reach.meets(steps(pointer))), None)
    except (TypeError, AttributeError, ValueError, RecursionError):
        return None


class _Reach:
    def __init__(self, root: Any, closed: bool) -> None:
        self._root = root
        self._closed = closed
        self._left = _MOST

    def meets(self, path: Sequence[str]) -> bool:
        reached = [self._root]
        for step in path:
            below = (under for part in self._parts(reached) for under in self.under(part, step))
            reached = list({id(schema): schema for schema in below}.values())
            if self._left <= 0 or any(schema is True or schema == {} for schema in reached):
                return True
        return any(schema is not False for schema in reached)

    def _parts(self, schemas: Sequence[Any]) -> list[Any]:
        """These schemas, and those that speak of the same values. True stands for what is not looked into."""
        left, found = list(schemas), dict[int, Any]()
        while left and self._left > 0:
            part = left.pop()
            if id(part) in found:
                continue
            found[id(part)] = part
            self._left -= 1
            if isinstance(part, dict):
                left += [self._referred(part[name]) for name in _REFERENCES if name in part]
                left += [branch for name in _WITHIN for branch in part.get(name, ())]
                left += [part[name] for name in _BESIDE if name in part]
                left += (part.get("dependentSchemas") or {}).values()
        return list(found.values())

    def under(self, schema: Any, step: str) -> Iterator[Any]:
        """What may stand one step further, as far as this part alone says."""
        if not isinstance(schema, dict):
            if schema is not False:
                yield True
            return
        if any(name in schema for name in _OF_VALUES):
            for value in (*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())):
                yield from ({"const": member} for member in _members(value, step))
            return
        types, indexed = _types(schema), step == "*" or step.isdecimal()
        if "object" in types:
            yield from self._member(schema, step)
        if "array" in types and indexed:
            yield from _item(schema, step)
        if not any(name in schema for name in _SPEAKING) and ("object" in types or ("array" in types and indexed)):
            yield True

    def _member(self, schema: dict[str, Any], step: str) -> Iterator[Any]:
        declared, patterns = schema.get("properties") or {}, schema.get("patternProperties") or {}
        if step == "*":
            yield from declared.values()
        elif step in declared:
            yield declared[step]
        if step == "*" or step not in declared:
            yield from patterns.values()  # which of them match is not asked: a pattern may take any time
            rest = [schema[name] for name in ("additionalProperties", "unevaluatedProperties") if name in schema]
            yield from rest
            if not rest and (declared or patterns) and not self._closed:
                yield True

    def _referred(self, reference: Any) -> Any:
        """What it names in the same document by pointer; True for any other."""
        if not isinstance(reference, str) or not re.fullmatch(r"#(/.*)?", reference, re.DOTALL):
            return True
        found: Any = self._root
        for part in reference[1:].split("/")[1:]:
            name = unescape(_percent(part))
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            else:
                return True
        return found


def _item(schema: dict[str, Any], step: str) -> Iterator[Any]:
    items = schema.get("items", True)
    first = items if isinstance(items, list) else schema.get("prefixItems", [])
    if step == "*":
        yield from first
    elif int(step) < len(first):
        yield first[int(step)]
        return
    named = [name for name in _OF_ARRAYS if name in schema]
    if isinstance(items, list):
        yield schema.get("additionalItems", True)
    elif named:
        yield items if "items" in schema else schema.get("unevaluatedItems", True)


def _types(schema: dict[str, Any]) -> tuple[str, ...]:
    named = schema.get("type", ("object", "array"))
    return (named,) if isinstance(named, str) else tuple(named)


def _members(value: Any, step: str) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (member for key, member in value.items() if step in ("*", key))
    elif isinstance(value, list):
        yield from (member for index, member in enumerate(value) if step in ("*", str(index)))


def _percent(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)
