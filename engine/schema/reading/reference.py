"""Where every subschema of one document stands, and what a reference points to. Fetches nothing, ever.

Knows `$id`/`id`, `$anchor`, `$dynamicAnchor`, `$recursiveAnchor` and JSON pointers (RFC 6901, percent-encoded).
Gives no other keyword a meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from engine.errors import LimitExceeded, SchemaInvalid, SchemaRefused
from engine.pointer import json_pointer, steps
from engine.schema.reading.dialect import Draft, draft_of
from engine.schema.reading.keywords import REFERENCES, speaks, subschemas
from engine.schema.reading.metaschemas import metaschemas

DYNAMIC_STEPS = 100_000
"""Dynamic references times resources with dynamic anchors."""

Scope = tuple[str, ...]
"""Base URIs entered so far, outermost first, each once: what `$dynamicRef` looks through."""


@dataclass(slots=True, eq=False)
class Location:
    """One subschema: its JSON pointer in the caller's document, and the base URI and draft it is read under."""

    number: int
    pointer: str
    schema: Any
    base: str
    draft: Draft
    children: dict[tuple[str, ...], Location] = field(default_factory=dict)
    origin: Location | None = None
    """Of a metaschema: where it was referred to first."""


@dataclass(slots=True, eq=False)
class _Resource:
    root: Location
    anchors: dict[str, Location] = field(default_factory=dict)
    dynamic: set[str] = field(default_factory=set)
    recursive: bool = False


class Schemas:
    """Index of one document. Building it is linear; raises LimitExceeded over `depth` or `nodes`."""

    def __init__(self, schema: Any, *, depth: int, nodes: int) -> None:
        self.locations: list[Location] = []
        self._resources: dict[str, _Resource] = {}
        self._depth = depth
        self._nodes = nodes
        self._looked = 0
        self._resolved: dict[tuple[str, str], Location] = {}
        self.root = self._add("", schema, "", draft_of(schema), 0)
        self.dynamic = any(r.dynamic or r.recursive for r in self._resources.values())

    @cached_property
    def holds_contents(self) -> bool:
        """Whether strings hold documents."""
        if self.root.draft < Draft.D2019:
            return False
        pending = [self.root.schema]  # locations are found one by one
        while pending:
            part = pending.pop()
            if isinstance(part, dict) and "contentSchema" in part and "contentMediaType" in part:
                return True
            pending += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        return False

    def child(self, location: Location, *path: str) -> Location:
        """The subschema at `path` below `location`; a place that the walk skipped is indexed on demand."""
        found = location.children.get(path)
        if found is None:
            value = location.schema
            for part in path:
                value = value[int(part)] if isinstance(value, list) else value[part]
            where = _extend(location.pointer, path)
            found = self._add(where, value, location.base, location.draft, 0, origin=location.origin)
            location.children[path] = found
        return found

    def enter(self, scope: Scope, location: Location) -> Scope:
        """The dynamic scope inside `location`, without resources whose anchors all stand further out too."""
        if not self.dynamic or location.base in scope:
            return scope
        inner, outer = self._resources[location.base], [self._resources[base] for base in scope]
        adds = inner.dynamic.difference(*(resource.dynamic for resource in outer))
        if not adds and not (inner.recursive and not any(resource.recursive for resource in outer)):
            return scope
        return (*scope, location.base)

    def resolve(self, location: Location, reference: str) -> Location:
        """The target of `$ref`. SchemaRefused when it is not in this document, SchemaInvalid when it is nowhere."""
        known = self._resolved.get((location.base, reference))
        if known is None:
            known = self._resolved[location.base, reference] = self._resolve(location, reference)
        return known

    def _resolve(self, location: Location, reference: str) -> Location:
        uri, fragment = urldefrag(_join(location.base, reference))
        resource = self._resources.get(uri) or self._resources.get(uri.rstrip("#")) or self._metaschema(uri, location)
        if resource is None:
            raise SchemaRefused(
                f"$ref {reference!r} points outside the schema; remote references are never fetched: "
                "copy the target into $defs",
                param="schema",
                pointer=location.pointer,
            )
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            if fragment not in resource.anchors:
                raise SchemaInvalid(f"$ref {reference!r}: no such anchor", param="schema", pointer=location.pointer)
            return resource.anchors[fragment]
        return self._follow(resource.root, fragment, reference, location)

    def _metaschema(self, uri: str, location: Location) -> _Resource | None:
        """The metaschema of this URI, read in with all others of its draft; None where it is none."""
        for name, document in metaschemas(uri).items():
            if name not in self._resources:
                self._add(f"{location.pointer}/$ref", document, name, draft_of(document), 1, origin=location)
        self.dynamic = any(r.dynamic or r.recursive for r in self._resources.values())
        return self._resources.get(uri)

    def resolve_dynamic(self, location: Location, reference: str, scope: Scope) -> Location:
        """The target of `$dynamicRef`: the outermost dynamic anchor of that name, when the first target is one."""
        target = self.resolve(location, reference)
        name = unquote(urldefrag(reference)[1])
        resource = self._resources[target.base]
        if name in resource.dynamic and resource.anchors.get(name) is target:
            for base in scope:
                outer = self._resources[base]
                if name in outer.dynamic:
                    return outer.anchors[name]
        return target

    def resolve_recursive(self, location: Location, scope: Scope) -> Location:
        """The target of `$recursiveRef: "#"`: the outermost resource, as long as each says `$recursiveAnchor`."""
        resource = self._resources[location.base]
        if resource.recursive:
            for base in scope:
                if self._resources[base].recursive:
                    return self._resources[base].root
        return resource.root

    def referrers(self) -> dict[int, list[tuple[Location, str]]]:
        """For every location the subschemas that apply it, with the keyword that does: parents and references."""
        above: dict[int, list[tuple[Location, str]]] = {}
        for at in list(self.locations):
            for path, child in at.children.items():
                above.setdefault(child.number, []).append((at, path[0]))
            for keyword, target in self.references(at):
                above.setdefault(target.number, []).append((at, keyword))
        return above

    def targets(self, location: Location, scope: Scope) -> Iterator[tuple[str, Location]]:
        """(keyword, target) for each reference of a location, seen from this scope. Raises what `resolve` raises."""
        schema = location.schema
        if isinstance(schema.get("$dynamicRef"), str) and speaks(location.draft, "$dynamicRef"):
            yield "$dynamicRef", self.resolve_dynamic(location, schema["$dynamicRef"], scope)
        if schema.get("$recursiveRef") == "#" and location.draft == Draft.D2019:
            yield "$recursiveRef", self.resolve_recursive(location, scope)
        if isinstance(schema.get("$ref"), str):
            yield "$ref", self.resolve(location, schema["$ref"])

    def references(self, location: Location) -> list[tuple[str, Location]]:
        """The same from every scope there may be; nowhere for what cannot be resolved."""
        if not isinstance(location.schema, dict) or location.schema.keys().isdisjoint(REFERENCES):
            return []
        found: dict[int, tuple[str, Location]] = {}
        for scope in self._scopes(location):
            with suppress(SchemaInvalid, SchemaRefused):
                for keyword, target in self.targets(location, scope):
                    found.setdefault(target.number, (keyword, target))
        return list(found.values())

    def _scopes(self, location: Location) -> Iterator[Scope]:
        """Scopes that tell all targets of a location apart. LimitExceeded where dynamic references multiply."""
        yield ()
        if self.dynamic and not location.schema.keys().isdisjoint(("$dynamicRef", "$recursiveRef")):
            bases = [base for base, resource in self._resources.items() if resource.dynamic or resource.recursive]
            self._looked += len(bases)
            if self._looked > DYNAMIC_STEPS:
                raise LimitExceeded("too many dynamic references and anchors", param="schema", pointer=location.pointer)
            yield from ((base,) for base in bases)

    def _follow(self, start: Location, fragment: str, reference: str, at: Location) -> Location:
        parts = steps(fragment)
        here, value = start, start.schema
        pending: tuple[str, ...] = ()
        for part in parts:
            try:
                value = value[_index(part)] if isinstance(value, list) else value[part]
            except (KeyError, IndexError, ValueError, TypeError):
                raise SchemaInvalid(
                    f"$ref {reference!r} points to nothing: no {part!r} there", param="schema", pointer=at.pointer
                ) from None
            pending = (*pending, part)
            known = here.children.get(pending)
            if known is not None:
                here, pending = known, ()
        if pending:
            if not isinstance(value, dict | bool):
                raise SchemaInvalid(f"$ref {reference!r} is no schema", param="schema", pointer=at.pointer)
            here = self.child(here, *pending)
        return here

    def _add(
        self, pointer: str, schema: Any, base: str, draft: Draft, depth: int, *, origin: Location | None = None
    ) -> Location:
        if depth > self._depth:
            raise LimitExceeded(f"schema is nested deeper than {self._depth}", param="schema", pointer=pointer)
        if len(self.locations) >= self._nodes:
            raise LimitExceeded(f"schema has more than {self._nodes} subschemas", param="schema", pointer=pointer)
        location = Location(len(self.locations), pointer, schema, base, draft, origin=origin)
        self.locations.append(location)
        if origin and depth == 1:
            self._resources[base] = _Resource(location)
        if isinstance(schema, dict):
            self._name(location, depth == 0 and not self._resources)
            for path, part in subschemas(schema, location.draft):
                where = _extend(pointer, path)
                location.children[path] = self._add(
                    where, part, location.base, location.draft, depth + 1, origin=origin
                )
        elif not self._resources:
            self._resources[base] = _Resource(location)
        return location

    def _name(self, location: Location, is_root: bool) -> None:
        """Register the ids and anchors of one schema object."""
        schema, draft = location.schema, location.draft
        hidden = draft.ref_hides_siblings and "$ref" in schema
        named = None if hidden else schema.get("id" if draft == Draft.D4 else "$id")
        if isinstance(named, str) and (is_root or named):
            self._identify(location, named, is_root)
        elif is_root:
            self._resources[""] = _Resource(location)
        resource = self._resources[location.base]
        for key in ("$anchor", "$dynamicAnchor"):
            if draft >= Draft.D2019 and isinstance(schema.get(key), str):
                resource.anchors.setdefault(schema[key], location)
                if key == "$dynamicAnchor":
                    resource.dynamic.add(schema[key])
        if draft == Draft.D2019 and schema.get("$recursiveAnchor") is True and resource.root is location:
            resource.recursive = True

    def _identify(self, location: Location, named: str, is_root: bool) -> None:
        uri, fragment = urldefrag(_join(location.base, named))
        if fragment and location.draft <= Draft.D7 and not fragment.startswith("/"):
            if is_root:
                self._resources[""] = _Resource(location)
            self._resources[location.base].anchors.setdefault(fragment, location)
            return
        if uri == location.base and not is_root:
            return
        location.base = uri
        location.draft = draft_of(location.schema, location.draft)
        resource = self._resources.setdefault(uri, _Resource(location))
        if is_root:
            self._resources.setdefault("", resource)


def _index(part: str) -> int:
    """An array index as RFC 6901 writes it. ValueError for anything else."""
    if not part.isascii() or not part.isdigit() or (part[0] == "0" and part != "0"):
        raise ValueError(part)
    return int(part)


def _join(base: str, reference: str) -> str:
    try:
        if base.startswith("urn:") and reference.startswith("#"):
            return base + reference
        return urljoin(base, reference)
    except ValueError:
        return reference


def _extend(pointer: str, path: tuple[str, ...]) -> str:
    return pointer + json_pointer(path)
