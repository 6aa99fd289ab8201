"""Which keyword occurrences a term comes from: the subschemas that act on the same value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from engine.errors import ConstraintError
from engine.schema.reading.keywords import asserted
from engine.schema.reading.reference import Location, Scope
from engine.schema.semantics.evaluator import Evaluator
from engine.schema.sets.term import Term
from engine.schema.verdicts.verdict import REPEATED_KEYS, VerdictWord

_LISTS = ("allOf", "anyOf", "oneOf")
_SINGLE = ("if", "then", "else", "not")
_MAPS = ("dependencies", "dependentSchemas")


def locations(evaluator: Evaluator, term: Term) -> list[Location]:
    """Every subschema that speaks of the term's value itself, each once."""
    found: dict[int, Location] = {}
    stack: list[tuple[Location, Scope]] = []
    terms = [term]
    while terms:
        part = terms.pop()
        terms.extend(evaluator.terms.parts(part))
        if part in evaluator.terms.nodes:
            stack.append(evaluator.terms.nodes[part])
    while stack:
        at, scope = stack.pop()
        if at.number not in found:
            found[at.number] = at
            stack.extend((target, evaluator.schemas.enter(scope, target)) for target in _applied(evaluator, at, scope))
    return list(found.values())


def _applied(evaluator: Evaluator, at: Location, scope: Scope) -> Iterator[Location]:
    schema, schemas = at.schema, evaluator.schemas
    if not isinstance(schema, dict):
        return
    with suppress(ConstraintError):
        yield from [target for _, target in schemas.targets(at, scope)]
    for path, child in at.children.items():
        if path[0] in _LISTS or path[0] in _MAPS or (len(path) == 1 and path[0] in _SINGLE):
            yield child


def mark(evaluator: Evaluator, term: Term, keywords: tuple[str, ...], word: VerdictWord, reason: str) -> None:
    """Note the same about every occurrence of `keywords` that speaks of the term's value."""
    for at in locations(evaluator, term):
        for keyword in keywords:
            if isinstance(at.schema, dict) and keyword in at.schema:
                evaluator.report.mark(at, keyword, word, reason)


def mark_untyped(evaluator: Evaluator, term: Term, word: VerdictWord, reason: str) -> bool:
    """Note the same about every keyword that speaks of the term's value where no type is named; is there any?"""
    untyped = [at for at in locations(evaluator, term) if isinstance(at.schema, dict) and "type" not in at.schema]
    found = [(at, keyword) for at in untyped for keyword in asserted(at.schema, at.draft)]
    for at, keyword in found:
        evaluator.report.mark(at, keyword, word, reason)
    return bool(found)


def mark_steps(evaluator: Evaluator, term: Term, word: VerdictWord, reason: str) -> None:
    """Note the same about every keyword that speaks of the term's value and of multiples."""
    for at in locations(evaluator, term):
        if not isinstance(at.schema, dict):
            continue
        named = at.schema.get("type", ())
        if "integer" in ([named] if isinstance(named, str) else named):
            evaluator.report.mark(at, "type", word, reason)
        if "multipleOf" in at.schema:
            evaluator.report.mark(at, "multipleOf", word, reason)


def name_repeats(evaluator: Evaluator) -> None:
    """Note at the root that some object's grammar lets a key stand twice."""
    reason = "who follows the keys of a document does not know those of a call's parameters"
    evaluator.report.mark(evaluator.schemas.root, REPEATED_KEYS, "checked", reason)
