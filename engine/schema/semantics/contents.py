"""Strings that hold JSON documents: contentMediaType with contentSchema. Knows the keywords; how they are written is
told by who writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.errors import RequestError, SchemaRefused
from engine.schema.reading.contents import LANGUAGE_OF, SYNTAX, is_written, syntax_at
from engine.schema.reading.dialect import Draft
from engine.schema.reading.reference import Location, Schemas
from engine.schema.semantics.evaluator import Evaluator, Undecided, children
from engine.schema.semantics.scalar_keywords import encoding_of
from engine.schema.sets.term import Term
from engine.schema.verdicts.report import Report

JSON = "application/json"
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
    for keyword in ("contentMediaType", "contentSchema"):
        evaluator.report.mark(at, keyword, "narrowed", HELD)
    target = evaluator.schemas.child(at, "contentSchema")
    return evaluator.terms.node(target, evaluator.schemas.enter((), target))


def holds_documents(evaluator: Evaluator, terms: Iterable[Term]) -> bool:
    """Whether strings in some values of these terms hold documents, as far as anybody knows."""
    if not evaluator.schemas.holds_contents:
        return False
    pending = list(terms)
    seen = set(pending)
    while pending:
        try:
            shape = evaluator.asked(pending.pop())
        except Undecided:
            return True
        if any(part.content is not None for part in shape.strings):
            return True
        fresh = [term for term in children(shape) if term not in seen]
        seen.update(fresh)
        pending += fresh
    return False


def refuse_unfollowed(schemas: Schemas) -> None:
    """SchemaRefused for an `x-syntax` that is not followed, and for a `oneOf` that nothing but it decides."""
    for at in schemas.locations:
        try:
            syntax_at(at)
        except RequestError as error:
            raise SchemaRefused(error.message, param="schema", pointer=f"{at.pointer}/x-syntax") from None
    for at in schemas.locations:
        if _is_undecided(at.schema, schemas.root.draft):
            message = (
                "the language of a string decides no oneOf, so that its strings are in several branches: say anyOf"
            )
            raise SchemaRefused(message, param="schema", pointer=f"{at.pointer}/oneOf")


def _is_undecided(schema: Any, judged: Draft) -> bool:
    """Whether branches of its `oneOf` are the same but for the language of their strings."""
    branches = schema.get("oneOf") if isinstance(schema, dict) else None
    written = [one for one in branches or () if isinstance(one, dict) and is_written(one, judged)]
    rest = [{name: value for name, value in one.items() if name not in SYNTAX} for one in written]
    return any(rest.count(one) > 1 for one in rest)


def mark_syntax(schemas: Schemas, report: Report) -> None:
    """Name the keywords by which strings are texts of a language, or are not."""
    for at in schemas.locations:
        syntax = syntax_at(at)
        if syntax is not None and is_written(at.schema, schemas.root.draft):
            keyword = "x-syntax" if "x-syntax" in at.schema else "contentMediaType"
            report.mark(at, keyword, "checked", f"each text must be {syntax.language}: {syntax.unit}")
        named = at.schema.get("contentMediaType") if isinstance(at.schema, dict) else None
        if isinstance(named, str) and named in LANGUAGE_OF and (syntax is None or "x-syntax" in at.schema):
            hides = "contentEncoding" if "contentEncoding" in at.schema else "$ref"
            why = f"{'x-syntax' if syntax else hides} stands beside it"
            report.mark(at, "contentMediaType", "enforced", f"an annotation, which asks for nothing: {why}")
