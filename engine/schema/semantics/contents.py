"""Strings that hold JSON documents: contentMediaType with contentSchema. Knows the keywords; how they are written is
told by who writes them."""

from __future__ import annotations

from collections.abc import Iterable

from engine.schema.reading.dialect import Draft
from engine.schema.reading.reference import Location
from engine.schema.semantics.evaluator import Evaluator, children
from engine.schema.semantics.scalar_keywords import encoding_of
from engine.schema.sets.term import Term

JSON = "application/json"
KEYWORDS = ("contentMediaType", "contentSchema")
HELD = "held by the grammar; the specification only annotates"


def content_term(evaluator: Evaluator, at: Location) -> Term | None:
    """What the document in a string must satisfy; None where the string holds none, or anything."""
    schema = at.schema
    if not isinstance(schema, dict):
        return None
    judged = evaluator.schemas.root.draft
    if judged < Draft.D2019 or schema.get("contentMediaType") != JSON:
        return None
    if "contentEncoding" in schema and encoding_of(at, judged) is None:
        return None  # who knows what it stands for
    if not isinstance(schema.get("contentSchema"), dict | bool):
        return None
    for keyword in KEYWORDS:
        evaluator.report.mark(at, keyword, "narrowed", HELD)
    target = evaluator.schemas.child(at, "contentSchema")
    return evaluator.terms.node(target, evaluator.schemas.enter((), target))


def holds_documents(evaluator: Evaluator, terms: Iterable[Term]) -> bool:
    """Whether strings in some values of these terms hold documents."""
    if not evaluator.schemas.holds_contents:
        return False
    pending = list(terms)
    seen = set(pending)
    while pending:
        shape = evaluator.shape(pending.pop())
        if any(part.content is not None for part in shape.strings):
            return True
        fresh = [term for term in children(shape) if term not in seen]
        seen.update(fresh)
        pending += fresh
    return False
