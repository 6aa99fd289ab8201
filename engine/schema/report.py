"""Collects what became of each keyword occurrence while a schema is lowered. Knows verdicts; decides none."""

from __future__ import annotations

from engine.schema.keywords import asserted
from engine.schema.reference import Location, Schemas
from engine.schema.verdict import Verdict, VerdictWord, weakest


class Report:
    """Marks by (pointer, keyword); the weakest word wins. What is never marked is enforced."""

    def __init__(self) -> None:
        self._marks: dict[tuple[str, str], Verdict] = {}

    def mark(
        self, at: Location, keyword: str, verdict: VerdictWord, reason: str, rewrite: str | None = None
    ) -> None:
        """Note that an occurrence is not plainly enforced."""
        key = (at.pointer, keyword)
        old = self._marks.get(key)
        if old is None or weakest(old.verdict, verdict) != old.verdict:
            self._marks[key] = Verdict(at.pointer, keyword, verdict, reason, rewrite)

    def verdicts(self, schemas: Schemas) -> tuple[Verdict, ...]:
        """One verdict per keyword occurrence, in the order of the document."""
        found: list[Verdict] = []
        marks = dict(self._marks)
        for location in schemas.locations:
            if not isinstance(location.schema, dict):
                continue
            for keyword in asserted(location.schema, location.draft):
                plain = Verdict(location.pointer, keyword, "enforced", "held by the grammar")
                found.append(marks.pop((location.pointer, keyword), plain))
        return (*found, *marks.values())
