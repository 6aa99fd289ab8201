"""Whether a pointer into documents can meet a value that a schema allows. Generous: only what cannot be is told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
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


@lru_cache(maxsize=1024)
def can_meet(source: str, pointer: str, *, closed: bool) -> bool:
    """`source` is a schema's JSON text; `closed`: objects that declare properties have no others."""
    root = json.loads(source)
    here = _Reach(root, closed)
    reached = [root]
    for step in steps(pointer):
        reached = [under for schema in reached for part in here.parts(schema) for under in here.under(part, step)]
        if any(schema is True or schema == {} for schema in reached):
            return True
    return any(schema is not False for schema in reached)


class _Reach:
    def __init__(self, root: Any, closed: bool) -> None:
        self._root = root
        self._closed = closed

    def parts(self, schema: Any) -> Iterator[Any]:
        """The schema, and those that speak of the same value. True stands for what is not looked into."""
        left, seen = [schema], set[int]()
        while left:
            part = left.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            yield part
            if isinstance(part, dict):
                left += [self._referred(part[name]) for name in _REFERENCES if name in part]
                left += [branch for name in _WITHIN for branch in part.get(name, ())]
                left += [part[name] for name in _BESIDE if name in part]
                left += (part.get("dependentSchemas") or {}).values()

    def under(self, schema: Any, step: str) -> Iterator[Any]:
        """What may stand one step further, as far as this part alone says."""
        if not isinstance(schema, dict):
            if schema is True:
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
        yield from (part for pattern, part in patterns.items() if step == "*" or _may_match(pattern, step))
        if step == "*" or step not in declared:
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


def _may_match(pattern: str, key: str) -> bool:
    try:
        return re.search(pattern, key) is not None
    except re.error:  # of ECMA-262 alone
        return True


def _percent(text: str) -> str:
    return re.sub(r"%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), text)
