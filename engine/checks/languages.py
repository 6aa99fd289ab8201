"""In which language the strings of a document are to be written: by its schema, and by pointers of the caller's.

What a schema says of a place may depend on what else is in the document. Then all that it may be is told, and where it
may be anything, nothing: the judge, who reads the whole document, has the last word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from math import inf
from typing import Any

from engine.checks.closed_values import is_at
from engine.config import Limits
from engine.constraint import Constraint
from engine.errors import EngineError
from engine.pointer import steps
from engine.schema.reading.contents import LANGUAGE_OF, SYNTAX, syntax_of
from engine.schema.reading.reference import Location, Schemas
from engine.syntax import Syntax
from engine.syntax.asked.completion import prepare
from engine.syntax.asked.sized import Sized

Path = tuple[str | int, ...]
Found = tuple[tuple[Path, frozenset[Sized]], ...]
"""What the strings at these paths are."""
Ways = frozenset[Sized | None]
"""What a string may be; None: anything."""
_ANYTHING: Ways = frozenset({None})
Own = Callable[[Location], Ways]
_TOO_FEW: Ways = frozenset({Sized(Syntax("python"), least=-1)})
"""No string is this."""
_ABSENT: Ways = frozenset()
"""There is no such place."""
_SAYING = frozenset({"$ref", *SYNTAX})
_DYNAMIC = frozenset({"$dynamicRef", "$recursiveRef"})
_CHOOSING = {
    *("anyOf", "oneOf", "not", "if", "then", "else", "contains", "propertyNames", "patternProperties"),
    *("dependencies", "dependentSchemas", "unevaluatedItems", "unevaluatedProperties"),
}
"""What stands below these is asked of some values only."""
_MOST = 2_000
"""Subschemas that are looked at for one string; one that needs more is not followed."""


def languages_of(constraint: Constraint | None, limits: Limits) -> Languages | None:
    """None where nothing is to be followed."""
    if constraint is None or constraint.kind != "json_schema":
        return None
    asked = [(tuple(steps(pointer)), check) for pointer, check in constraint.checks if isinstance(check, Syntax)]
    told = any(name in constraint.source for name in ("x-syntax", *LANGUAGE_OF))
    if not (told or asked):
        return None
    try:
        schemas = _read(constraint.source, limits.schema_depth, limits.schema_nodes) if told else None
    except EngineError:
        return None  # whoever compiles it says so
    for _, syntax in asked:
        prepare(syntax.start().language)
    return Languages(schemas, asked, closed=constraint.conformance == "tight")


def _read(source: str, depth: int, nodes: int) -> Schemas:
    """A schema, whose languages are made ready; kept for the next requests, but for one whose looks are counted."""
    schemas = _kept(source, depth, nodes)
    return Schemas(schemas.root.schema, depth=depth, nodes=nodes) if schemas.dynamic else schemas


@lru_cache(maxsize=16)
def _kept(source: str, depth: int, nodes: int) -> Schemas:
    schemas = Schemas(json.loads(source), depth=depth, nodes=nodes)
    parts = [schemas.root.schema]
    while parts:
        part = parts.pop()
        parts += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        if isinstance(part, dict) and (syntax := _syntax_of(part)) is not None:
            prepare(syntax.start().language)
    return schemas


def _is_alone(schema: Any) -> bool:
    parts = [(schema, False)]
    while parts:
        part, chosen = parts.pop()
        if isinstance(part, dict):
            other = "contentMediaType" in part and _syntax_of(part) is None
            if other or not _DYNAMIC.isdisjoint(part) or (chosen and not _SAYING.isdisjoint(part)):
                return False
            parts += [(below, chosen or name in _CHOOSING) for name, below in part.items()]
        elif isinstance(part, list):
            parts += [(below, chosen) for below in part]
    return True


def _syntax_of(part: dict[str, Any]) -> Syntax | None:
    try:
        return syntax_of(part)
    except EngineError:  # it may stand where nobody looks
        return None


class Languages:
    """Of one request. `closed`: objects that declare properties have no others."""

    def __init__(
        self, schemas: Schemas | None, asked: Sequence[tuple[tuple[str, ...], Syntax]], *, closed: bool
    ) -> None:
        self._schemas, self._asked, self._closed = schemas, asked, closed
        self._left = 0
        self._before: Found = ()
        self.sure = True

    @cached_property
    def alone(self) -> bool:
        """Whether no keyword that names a language stands below one that asks for it of some values only."""
        return not self._asked and self._schemas is not None and _is_alone(self._schemas.root.schema)

    def at(self, path: Path, before: Found = ()) -> tuple[frozenset[Sized], ...]:
        """Of each of these the string at `path` must be one; none where it may be anything. `before`: what strings
        before it turned out to be, by which branches of the schema cannot be meant any more."""
        found = [frozenset({Sized(syntax)}) for place, syntax in self._asked if is_at(place, path)]
        if self._schemas is not None:
            ways = self._looked_at(path, before, _language)
            if before and (not ways or self._left <= 0):
                ways = self._looked_at(path, (), _language)
            if ways and self._left > 0 and None not in ways:
                found.append(frozenset(way for way in ways if way is not None))
            self.sure = self._left > 0 and (bool(found) or ways == _ANYTHING)
        return tuple(found)

    def may_end(self, path: Path, count: int, before: Found) -> bool:
        """Whether an array at `path` may end behind so many items, of which more may come."""
        if self._schemas is None:
            return True
        ways = self._looked_at(path, before, lambda at: _TOO_FEW if count < at.schema.get("minItems", 0) else _ANYTHING)
        return self._left <= 0 or ways != _TOO_FEW

    def _looked_at(self, path: Path, before: Found, own: Own) -> Ways:
        assert self._schemas is not None
        self._left, self._before = _MOST, before
        try:
            return self._ways(self._schemas.root, path, (), own)
        except (RecursionError, EngineError):  # too deep, or too large, to look at
            self._left = 0
            return _ANYTHING

    def _ways(self, at: Location, path: Path, here: Path, own: Own) -> Ways:
        """What `own` says of the value at `path` below a value that is at `here` and that `at` describes."""
        self._left -= 1
        schema = at.schema
        if not isinstance(schema, dict) or self._left <= 0:
            return _ANYTHING if schema else _ABSENT
        if not _may_be(schema, path, "string" if own is _language else "array"):
            return _ABSENT
        refers = [self._ways(target, path, here, own) for target in self._targets(at)]
        if refers and at.draft.ref_hides_siblings:
            return refers[0]
        below = self._below(at, path[0]) if path else ()
        told = _one(self._ways(child, path[1:], (*here, path[0]), own) for child in below) if path else own(at)
        return _all([told, *refers, *self._applied(at, path, here, own)])

    def _applied(self, at: Location, path: Path, here: Path, own: Own) -> Iterator[Ways]:
        """By what is applied in place. `if`, `not` and what depends on other keys may apply or not: left out."""
        assert self._schemas is not None
        for name in ("allOf", "anyOf", "oneOf"):
            if isinstance(at.schema.get(name), list):
                branches = [self._schemas.child(at, name, str(index)) for index in range(len(at.schema[name]))]
                if name != "allOf":
                    branches = [branch for branch in branches if not self._is_refuted(branch, here)]
                ways = [self._ways(branch, path, here, own) for branch in branches]
                yield _all(ways) if name == "allOf" else _one(ways)

    def _is_refuted(self, branch: Location, here: Path) -> bool:
        """Whether a string before is none that the value at `here` could have by this branch."""
        before, self._before = self._before, ()
        below = [(place[len(here) :], found) for place, found in before if place[: len(here)] == here != place]
        ways = [(self._ways(branch, place, here, _language), found) for place, found in below]
        self._before = before
        return any(None not in way and way.isdisjoint(found) for way, found in ways)

    def _targets(self, at: Location) -> list[Location]:
        """What a reference names, where it names one place."""
        assert self._schemas is not None
        found = [target for _, target in self._schemas.references(at)]
        return found if len(found) == 1 and self._left > 0 else []

    def _below(self, at: Location, step: str | int) -> Iterator[Location]:
        """What may say what stands there; of patterns it is not asked which ones match."""
        assert self._schemas is not None
        schema = at.schema
        if isinstance(step, int):
            names = ("prefixItems", "items") if isinstance(schema.get("prefixItems"), list) else ("items",)
            listed = names[0] if isinstance(schema.get(names[0]), list) else None
            if listed is not None and step < len(schema[listed]):
                yield self._schemas.child(at, listed, str(step))
                return
            rest = "additionalItems" if listed == "items" else "items"
            yield self._rest(at, rest)
            return
        declared = schema.get("properties")
        if isinstance(declared, dict) and step in declared:
            yield self._schemas.child(at, "properties", step)
            return
        patterns = schema.get("patternProperties")
        for pattern in patterns if isinstance(patterns, dict) else ():
            yield self._schemas.child(at, "patternProperties", pattern)
        if "additionalProperties" in schema or not (self._closed and (declared or patterns)):
            yield self._rest(at, "additionalProperties")

    def _rest(self, at: Location, name: str) -> Location:
        assert self._schemas is not None
        return self._schemas.child(at, name) if isinstance(at.schema.get(name), dict | bool) else _UNSAID


_UNSAID = Schemas(True, depth=1, nodes=10).root


def _language(at: Location) -> Ways:
    """What a string may be by the keywords that speak of it."""
    syntax = syntax_of(at.schema)
    if syntax is None:
        return _ANYTHING
    return frozenset({Sized(syntax, int(at.schema.get("minLength", 0)), at.schema.get("maxLength", inf))})


def _may_be(schema: dict[str, object], path: Path, wanted: str) -> bool:
    """Whether it describes a value with something at `path`, which is what is `wanted`."""
    named = schema.get("type")
    if path:
        wanted = "array" if isinstance(path[0], int) else "object"
    return named is None or wanted == named or (isinstance(named, list) and wanted in named)


def _all(ways: Iterable[Ways]) -> Ways:
    """Where each of these holds: the first that is sure. Parts that do not know the place leave it to others."""
    known = [way for way in ways if way]
    return next((way for way in known if None not in way), known[0] if known else _ABSENT)


def _one(ways: Iterable[Ways]) -> Ways:
    return frozenset().union(*ways)
