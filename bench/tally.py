"""Counts, percentiles and tables over the outcomes of a MaskBench run.

Knows cases, outcomes and the validator's view. Knows no engine and no process.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jsonschema_rs

from bench.cases import Case
from bench.naming import Failure, failures, keyword_of, named, validator
from bench.worker import Outcome

PERCENTILES = (("p50", 0.50), ("p90", 0.90), ("p99", 0.99))


@dataclass(slots=True)
class Judged:
    """One test of one outcome beside what the validator says of it."""

    case: Case
    index: int
    valid: bool
    accepted: bool | None
    keyword: str
    named: bool
    failures: list[Failure] = field(default_factory=list)


class Judge:
    """The validator's view of every test, computed once a case and shared by all engines."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self.cases = {case.name: case for case in cases}
        self._views: dict[str, list[list[Failure]]] = {}

    def judge(self, outcome: Outcome) -> list[Judged]:
        """One entry per test, also for refused schemas (`accepted` None)."""
        case = self.cases[outcome.case]
        if case.name not in self._views:
            self._views[case.name] = _look(case)
        view = self._views[case.name]
        return [
            Judged(
                case,
                index,
                test.valid,
                accepted,
                keyword_of(view[index]),
                named(view[index], outcome.verdicts),
                view[index],
            )
            for index, (test, accepted) in enumerate(zip(case.tests, outcome.accepted, strict=True))
        ]


def _look(case: Case) -> list[list[Failure]]:
    """The validator's failures per test; none where it cannot read the schema at all."""
    try:
        check = validator(case.schema)
    except (ValueError, jsonschema_rs.ReferencingError):
        return [[] for _ in case.tests]
    return [[] if test.valid else failures(case.schema, check, test.data) for test in case.tests]


def figures(outcomes: Sequence[Outcome], judged: Sequence[Judged]) -> dict[str, Any]:
    """The contract's figures of one engine. Rejections count over the tests of schemas it compiled."""
    ran = [one for one in judged if one.accepted is not None]
    valid = [one for one in ran if one.valid]
    invalid = [one for one in ran if not one.valid]
    slipped = [one for one in invalid if one.accepted]
    compiled = [outcome for outcome in outcomes if outcome.compiled]
    return {
        "schemas": len(outcomes),
        "compiled": len(compiled),
        "crashed": sum(outcome.crashed for outcome in outcomes),
        "valid_total": len(valid),
        "valid_rejected": sum(not one.accepted for one in valid),
        "invalid_total": len(invalid),
        "invalid_accepted_unnamed": sum(not one.named for one in slipped),
        "invalid_accepted_named": sum(one.named for one in slipped),
        "compile_ms": percentiles([outcome.compile_ms for outcome in compiled]),
        "compile_wall_ms": percentiles([outcome.compile_wall_ms for outcome in compiled]),
        "first_matcher_ms": percentiles([outcome.first_matcher_ms for outcome in compiled]),
        "ready_ms": percentiles([outcome.compile_ms + outcome.first_matcher_ms for outcome in compiled]),
        "ready_again_ms": percentiles([outcome.again_ms for outcome in compiled]),
        "first_document_ms": percentiles(_first_documents(compiled)),
        "first_fill_us": percentiles([us for outcome in compiled for row in outcome.first_us[:1] for us in row]),
        "fill_us": percentiles([us for outcome in compiled for row in outcome.fill_us for us in row]),
        "accept_us": percentiles([us for outcome in compiled for row in outcome.accept_us for us in row]),
        "steps": sum(len(row) for outcome in compiled for row in outcome.fill_us),
        "verdicts": dict(Counter(verdict["verdict"] for outcome in outcomes for verdict in outcome.verdicts)),
        "refusals": dict(Counter(short_reason(o.reason) for o in outcomes if not o.compiled).most_common(20)),
    }


def _first_documents(compiled: Sequence[Outcome]) -> list[float]:
    """From a schema nobody has seen to the last mask of its first document that was accepted whole."""
    return [
        outcome.compile_ms + outcome.first_matcher_ms + sum(outcome.first_us[0]) / 1e3
        for outcome in compiled
        if outcome.accepted and outcome.accepted[0]
    ]


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p90, p99 (nearest rank) and the maximum, 3 decimals; zeros for no values."""
    ordered = sorted(values)
    return {name: round(quantile(ordered, share) or 0.0, 3) for name, share in (*PERCENTILES, ("max", 1.0))}


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def short_reason(reason: str) -> str:
    """A refusal without the parts that differ from schema to schema, for counting."""
    line = reason.strip().splitlines()[0] if reason.strip() else "(no reason)"
    return line[:100]


@dataclass(slots=True)
class Confusion:
    """One keyword's row: valid tests of schemas that hold it, invalid tests that fail at it."""

    schemas: int = 0
    refused: int = 0
    valid: int = 0
    valid_rejected: int = 0
    invalid: int = 0
    accepted_unnamed: int = 0
    accepted_named: int = 0


def confusion(outcomes: Sequence[Outcome], judged: Mapping[str, Sequence[Judged]]) -> dict[str, Confusion]:
    """Rows by keyword. `judged` maps case names to their tests."""
    rows: dict[str, Confusion] = defaultdict(Confusion)
    for outcome in outcomes:
        tests = judged[outcome.case]
        rejected = sum(one.valid and one.accepted is False for one in tests)
        valid = sum(one.valid and one.accepted is not None for one in tests)
        for keyword in keywords(tests[0].case.schema) if tests else ():
            row = rows[keyword]
            row.schemas += 1
            row.refused += not outcome.compiled
            row.valid += valid
            row.valid_rejected += rejected
        for one in tests:
            if not one.valid and one.accepted is not None:
                row = rows[one.keyword]
                row.invalid += 1
                row.accepted_unnamed += one.accepted and not one.named
                row.accepted_named += one.accepted and one.named
    return dict(rows)


HOLDERS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"})
DATA = frozenset({"const", "enum", "default", "examples", "example"})
SILENT = frozenset({"title", "description", "$comment", "$schema", "$id", "id", "default", "examples"})
KNOWN = frozenset(
    """$anchor $defs $dynamicAnchor $dynamicRef $recursiveRef $ref additionalItems additionalProperties allOf anyOf
    const contains contentEncoding contentMediaType contentSchema definitions dependencies dependentRequired
    dependentSchemas else enum exclusiveMaximum exclusiveMinimum format if items maxContains maxItems maxLength
    maxProperties maximum minContains minItems minLength minProperties minimum multipleOf not oneOf pattern
    patternProperties prefixItems properties propertyNames required then type unevaluatedItems
    unevaluatedProperties uniqueItems""".split()  # noqa: SIM905 - fifty quoted names would hide the names
)


def keywords(schema: Any) -> set[str]:
    """Every keyword a schema uses; names of properties and parts of constants are not keywords."""
    if isinstance(schema, list):
        return set().union(*map(keywords, schema))
    if not isinstance(schema, dict):
        return set()
    found = {name if name in KNOWN else "(unknown)" for name in schema if name not in SILENT}
    for name, value in schema.items():
        if name in HOLDERS and isinstance(value, dict):
            found = found.union(*map(keywords, value.values()))
        elif name not in DATA:
            found |= keywords(value)
    return found
