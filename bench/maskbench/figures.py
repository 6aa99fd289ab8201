"""The figures of a MaskBench run, over all tests and keyword by keyword, and their tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from bench.conformance.engine_process import Outcome
from bench.conformance.judged import Judged
from bench.harness.statistics import percentiles
from bench.harness.tables import print_table

ByCase = Mapping[str, Sequence[Judged]]


def figures(outcomes: Sequence[Outcome], judged: ByCase) -> dict[str, Any]:
    """The contract's figures of one engine. Rejections count over the tests of schemas it compiled."""
    ran = [one for tests in judged.values() for one in tests if one.accepted is not None]
    valid, invalid = ([one for one in ran if one.valid is wanted] for wanted in (True, False))
    slipped = [one for one in invalid if one.accepted]
    compiled = [outcome for outcome in outcomes if outcome.compiled]
    walks = [walk for outcome in compiled for walk in outcome.walks]
    first = [walk for outcome in compiled for walk in outcome.walks[:1]]
    documents = [o for o in compiled if o.walks and o.walks[0].accepted]
    times = {
        "compile_ms": [o.compile_ms for o in compiled],
        "compile_wall_ms": [o.compile_wall_ms for o in compiled],
        "first_matcher_ms": [o.first_matcher_ms for o in compiled],
        "ready_ms": [o.compile_ms + o.first_matcher_ms for o in compiled],
        "ready_again_ms": [o.again_ms for o in compiled],
        "first_document_ms": [o.compile_ms + o.first_matcher_ms + sum(o.walks[0].first_us) / 1e3 for o in documents],
        "first_fill_us": [us for walk in first for us in walk.first_us],
        "fill_us": [us for walk in walks for us in walk.fill_us],
        "accept_us": [us for walk in walks for us in walk.accept_us],
    }
    reasons = (outcome.reason.strip().partition("\n")[0][:100] for outcome in outcomes if not outcome.compiled)
    return {
        "schemas": len(outcomes),
        "compiled": len(compiled),
        "crashed": sum(outcome.crashed for outcome in outcomes),
        "valid_total": len(valid),
        "valid_rejected": sum(not one.accepted for one in valid),
        "invalid_total": len(invalid),
        "invalid_accepted_unnamed": sum(not one.named for one in slipped),
        "invalid_accepted_named": sum(one.named for one in slipped),
        **{name: percentiles(values) for name, values in times.items()},
        "steps": len(times["fill_us"]),
        "verdicts": dict(Counter(verdict["verdict"] for outcome in outcomes for verdict in outcome.verdicts)),
        "refusals": dict(Counter(reason or "(no reason)" for reason in reasons).most_common(20)),
    }


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


def confusion(outcomes: Sequence[Outcome], judged: ByCase) -> dict[str, Confusion]:
    """Rows by keyword."""
    rows: dict[str, Confusion] = defaultdict(Confusion)
    for outcome in outcomes:
        tests = judged[outcome.case]
        valid = [one for one in tests if one.valid and one.accepted is not None]
        for keyword in keywords(tests[0].case.schema) if tests else ():
            row = rows[keyword]
            row.schemas += 1
            row.refused += not outcome.compiled
            row.valid += len(valid)
            row.valid_rejected += sum(not one.accepted for one in valid)
        for one in tests:
            if not one.valid and one.accepted is not None:
                row = rows[one.keyword]
                row.invalid += 1
                row.accepted_unnamed += one.accepted and not one.named
                row.accepted_named += one.accepted and one.named
    return dict(rows)


def print_engines(engines: Mapping[str, Mapping[str, Any]]) -> None:
    """Engines side by side: counts, then percentiles as p50 / p90 / p99 / max."""

    def cell(value: Any) -> str:
        return " / ".join(f"{part:,.4g}" for part in value.values()) if isinstance(value, Mapping) else str(value)

    names = [name for name in next(iter(engines.values())) if name not in ("verdicts", "refusals", "start_s")]
    print_table(["", *engines], [[name, *(cell(one[name]) for one in engines.values())] for name in names])


def print_confusion(engine: str, rows: Mapping[str, Confusion]) -> None:
    """One line per keyword."""
    print(f"\n{engine}: by keyword")
    head = ["keyword", "schemas", "refused", "valid", "rejected", "invalid", "unnamed", "named"]
    print_table(head, [[name, *map(str, astuple(row))] for name, row in sorted(rows.items())])


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
