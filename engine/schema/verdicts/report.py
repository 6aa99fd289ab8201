"""Collects what became of each keyword occurrence while a schema is lowered. Knows verdicts; decides none."""

from __future__ import annotations

from engine.schema.reading.keywords import asserted
from engine.schema.reading.reference import Location, Schemas
from engine.schema.verdicts.verdict import Verdict, VerdictWord, weakest

_UNEVALUATED = frozenset({"unevaluatedItems", "unevaluatedProperties"})
DECIDING = _UNEVALUATED | {"anyOf", "oneOf", "not", "if", "contains", "propertyNames", "contentSchema"}
"""Applicators whose outcome depends on a whole subschema; the others pass the failure of a part on."""


class Report:
    """Marks by (pointer, keyword); the weakest word wins. What is never marked is enforced."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], Verdict] = {}

    def mark(self, at: Location, keyword: str, verdict: VerdictWord, reason: str, rewrite: str | None = None) -> None:
        """Note that an occurrence is not plainly enforced; one in a metaschema is told of the reference to that."""
        if at.origin is not None:
            at, keyword, reason, rewrite = at.origin, "$ref", f"{keyword} in a metaschema: {reason}", None
        key = (at.pointer, keyword)
        old = self._marks.get(key)
        if old is None or weakest(old.verdict, verdict) != old.verdict:
            self._marks[key] = Verdict(at.pointer, keyword, verdict, reason, rewrite)

    def lift(self, schemas: Schemas) -> None:
        """Name every applicator under which something is `checked`, since a validator may report the failure there."""
        stack = [at for at in schemas.locations if self._has_checked(at)]
        above = schemas.referrers() if stack else {}
        reached = {at.number for at in stack}
        while stack:
            at = stack.pop()
            for parent, keyword in above.get(at.number, ()):
                if keyword in DECIDING:
                    self.mark(parent, keyword, "checked", "something below it is checked")
                if parent.number not in reached:
                    reached.add(parent.number)
                    stack.append(parent)

    def _has_checked(self, at: Location) -> bool:
        if not isinstance(at.schema, dict):
            return False
        marks = (self._marks.get((at.pointer, keyword)) for keyword in at.schema)
        return any(mark is not None and mark.verdict == "checked" for mark in marks)

    def verdicts(self, schemas: Schemas) -> tuple[Verdict, ...]:
        """One verdict per keyword occurrence, in the order of the document."""
        found: list[Verdict] = []
        marks = dict(self._marks)
        for location in schemas.locations:
            if not isinstance(location.schema, dict) or location.origin:
                continue
            for keyword in asserted(location.schema, location.draft):
                plain = Verdict(location.pointer, keyword, "enforced", "held by the grammar")
                found.append(marks.pop((location.pointer, keyword), plain))
        return (*found, *marks.values())
