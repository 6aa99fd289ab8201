"""Cases through several engines in turn, and a folder in which each outcome is kept as soon as it is known."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.conformance.engine_process import EngineProcess, Outcome
from bench.conformance.walk import Walk
from bench.datasets.cases import Case, json_lines

OUTCOMES = "maskbench.outcomes.jsonl"
RUN = "maskbench.run.json"
"""Which commit, data and settings the outcomes beside it are of."""


class Outcomes:
    """By engine and case; without a folder they are not kept."""

    def __init__(self, out: Path | None, about: Mapping[str, Any]) -> None:
        """One commit, one data set and one set of settings to a folder; SystemExit where it holds others."""
        self.known: dict[tuple[str, str], Outcome] = {}
        self._lock = threading.Lock()
        self._file = None if out is None else out / OUTCOMES
        if out is None or self._file is None:
            return
        out.mkdir(parents=True, exist_ok=True)
        run = out / RUN
        before = json.loads(run.read_text(encoding="utf-8")) if run.exists() else None
        if self._file.exists():
            if before != about:
                commit = "nobody knows which commit" if before is None else f"commit {before['commit']}"
                text = f"{out} holds outcomes of {commit}, or of other data or settings"
                sys.exit(f"{text}: give another folder, or delete {OUTCOMES} to start afresh")
            for line in json_lines(self._file):
                outcome = Outcome(**{**line, "walks": [Walk(**walk) for walk in line["walks"]]})
                self.known[outcome.engine, outcome.case] = outcome
        run.write_text(json.dumps(about), encoding="utf-8")

    def add(self, outcome: Outcome) -> None:
        with self._lock:
            self.known[outcome.engine, outcome.case] = outcome
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")


def run(
    cases: Sequence[Case], teams: Sequence[Sequence[EngineProcess]], outcomes: Outcomes
) -> dict[str, list[Outcome]]:
    """Outcomes by engine, in case order; those that are known are not computed again. Each team takes every so-manieth
    case, its engines in turn."""
    known = outcomes.known

    def work(first: int, team: Sequence[EngineProcess]) -> None:
        for number in range(first, len(cases), len(teams)):
            case, turn = cases[number], number // len(teams) % len(team)
            for process in (*team[turn:], *team[:turn]):
                if (process.engine, case.name) not in known:
                    outcomes.add(process.run(case))
            if (number + 1) % 100 == 0:
                print(f"{number + 1} of {len(cases)} schemas", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(len(teams)) as pool:
        list(pool.map(work, range(len(teams)), teams))
    return {process.engine: [known[process.engine, case.name] for case in cases] for process in teams[0]}
