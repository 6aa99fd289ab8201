"""Every test of an outcome beside what the validator says of it. Knows no engine and no process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jsonschema_rs

from bench.conformance.engine_process import Outcome
from bench.conformance.failures import Failure, failures, named, validator
from bench.datasets.cases import Case


@dataclass(slots=True)
class Judged:
    """One test; `accepted` is None where it never ran, `named` whether a verdict covers every failure."""

    case: Case
    index: int
    accepted: bool | None
    named: bool
    failures: list[Failure]

    @property
    def valid(self) -> bool:
        return self.case.tests[self.index].valid

    @property
    def keyword(self) -> str:
        """The keyword of the first failure, for tables; '(none)' where the validator finds nothing wrong."""
        return self.failures[0].keyword if self.failures else "(none)"


class Judge:
    """The validator's view of every test, computed once a case and shared by all engines."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._cases = {case.name: case for case in cases}
        self._views: dict[str, list[list[Failure]]] = {}

    def judge(self, outcome: Outcome) -> list[Judged]:
        """One entry per test, also for refused schemas."""
        case = self._cases[outcome.case]
        if case.name not in self._views:
            self._views[case.name] = _look(case)
        return [
            Judged(case, index, walk.accepted, named(found, outcome.verdicts), found)
            for index, (walk, found) in enumerate(zip(outcome.walks, self._views[case.name], strict=True))
        ]

    def judge_all(self, outcomes: Sequence[Outcome]) -> dict[str, list[Judged]]:
        """By case."""
        return {outcome.case: self.judge(outcome) for outcome in outcomes}


def _look(case: Case) -> list[list[Failure]]:
    """The validator's failures per test; none where it cannot read the schema at all."""
    try:
        check = validator(case.schema)
    except (ValueError, jsonschema_rs.ReferencingError):
        return [[] for _ in case.tests]
    return [[] if test.valid else failures(case.schema, check, test.data) for test in case.tests]
