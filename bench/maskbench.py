"""MaskBench: what each engine accepts, refuses and lets through, and what its compiles and masks cost.

    python -m bench.maskbench DATA [--limit N] [--engines ours,xgrammar_dynamic,llguidance] [--tokenizer FILE]
                                   [--conformance spec] [--slow-sample N] [--jobs 2] [--quick] [--out DIR]

Engines run interleaved: each schema goes through all of them, the order rotating, each engine in its own process
under one time limit; with `--slow-sample` the slow ones see a sample. With `--out` every outcome is kept at once in
`DIR/maskbench.outcomes.jsonl`, and a run that was stopped goes on where it ended, on the same commit, data and settings
only. Ceiling: the invalid documents a perfect engine accepts are 0, the valid ones all.

`ready` is the CPU time from the schema to a matcher, `ready_again` the same once more; `first_fill` are the fills of a
schema's first document the first time, `first_document` all of that together; `fill` is the smallest of the walks.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from bench.cases import Case, data_sha256, load_cases
from bench.findings import write_findings
from bench.peers import MODULES
from bench.record import ROOT, commit, dirty, emit, record
from bench.tables import print_confusion, print_figures
from bench.tally import Judge, Judged, confusion, figures
from bench.vocabulary import BYTES
from bench.worker import Outcome, Settings, Worker

OWN_DATA = ROOT / "bench" / "data" / "maskbench"
SLOW = frozenset({"xgrammar", "outlines_core", "lmfe"})
"""Engines that take seconds for many schemas or documents."""
OUTCOMES = "maskbench.outcomes.jsonl"
RUN = "maskbench.run.json"
"""Which commit, data and settings the outcomes beside it are of."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the tables and the JSON line; 0 unless an engine could not start."""
    options = parse(arguments)
    cases = _chosen(options)
    settings = Settings(
        tokenizer=options.tokenizer,
        conformance=options.conformance,
        repeats=options.repeats,
        compile_limit_s=options.compile_limit,
        walk_limit_s=options.walk_limit,
    )
    if options.out is not None:
        _claim(
            options.out,
            {"commit": commit(), "dirty": dirty(), "data_sha256": data_sha256(options.data), **asdict(settings)},
        )
    print(f"ceiling: 0 invalid documents accepted, 0 valid ones rejected, {len(cases)} schemas compiled", flush=True)
    slow = _sample(cases, options.slow_sample)
    with ExitStack() as stack:
        teams = [[_started(name, settings, stack) for name in options.engines] for _ in range(options.jobs)]
        outcomes = run(cases, teams, options.out, dict.fromkeys(SLOW, slow))
        starts = {worker.engine: round(worker.start_s, 3) for worker in teams[0]}
        packages = sorted({package for team in teams for worker in team for package in worker.versions})
    judge = Judge(cases)
    judged = {name: {o.case: judge.judge(o) for o in outcomes[name]} for name in options.engines}
    if options.findings:
        engine = options.engines[0]
        write_findings(options.findings, outcomes[engine], judged[engine], settings.tokenizer)
    _print(options.engines, outcomes, judged)
    emit(_line(options, settings, outcomes, judged, starts, packages), options.out)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; `--quick` is our own small data set, the byte vocabulary and one repeat."""
    parser = argparse.ArgumentParser(prog="python -m bench.maskbench", description="MaskBench, several engines at once")
    parser.add_argument("data", type=Path, nargs="?", help="MaskBench JSON lines (plain or .xz) or a folder")
    parser.add_argument("--limit", type=int, help="only the first N schemas")
    parser.add_argument("--sample", type=int, help="N schemas drawn at random (a larger N adds to a smaller one)")
    parser.add_argument("--only", help="only schemas whose name contains this")
    parser.add_argument("--engines", type=_engines, default=list(MODULES))
    parser.add_argument("--tokenizer", default=None, help=f"tokenizer.json[.xz], a folder, or '{BYTES}' (default)")
    parser.add_argument("--conformance", choices=("spec", "tight"), default="spec")
    parser.add_argument("--repeats", type=int, default=3, help="walks of each document; a step's smallest counts")
    parser.add_argument("--compile-limit", type=float, default=10.0, help="CPU seconds a schema may take")
    parser.add_argument("--walk-limit", type=float, default=10.0, help="CPU seconds for one document, all walks of it")
    parser.add_argument("--slow-sample", type=int, help=f"so many of the schemas for {', '.join(sorted(SLOW))}")
    parser.add_argument("--jobs", type=int, default=1, help="schemas at a time; no more than the machine has cores")
    parser.add_argument("--findings", type=Path, help="write what the first engine got wrong to this file")
    parser.add_argument("--quick", action="store_true", help="small own data, byte vocabulary, one repeat")
    parser.add_argument("--out", type=Path, help="folder for the JSON line and the resumable outcomes")
    options = parser.parse_args(arguments)
    if options.quick:
        options.data = options.data or OWN_DATA
        options.repeats = 1
    if options.data is None or not options.data.exists():
        parser.error(f"no data at {options.data}")
    options.tokenizer = options.tokenizer or BYTES
    return options


def _chosen(options: argparse.Namespace) -> list[Case]:
    cases = load_cases(options.data, options.limit)
    if options.only:
        cases = [case for case in cases if options.only in case.name]
    chosen = _sample(cases, options.sample)
    return [case for case in cases if case.name in chosen]


def _sample(cases: Sequence[Case], size: int | None) -> Collection[str]:
    """The names of so many cases, drawn with a fixed seed; of all where there is no size."""
    names = [case.name for case in cases]
    if size is not None:
        random.Random(0).shuffle(names)
    return set(names[:size])


def run(
    cases: Sequence[Case], teams: Sequence[Sequence[Worker]], out: Path | None, only: dict[str, Collection[str]]
) -> dict[str, list[Outcome]]:
    """Outcomes by engine, in case order; cases found in `out` are taken from there. Each team takes every so-manieth
    case; `only` holds the cases of engines that do not see all."""
    known = _kept(out)
    lock = threading.Lock()
    with ExitStack() as stack:
        keep = _keeper(out, stack)

        def work(team: Sequence[Worker], first: int) -> None:
            for number in range(first, len(cases), len(teams)):
                case = cases[number]
                for worker in _rotated(team, number // len(teams)):
                    here = (worker.engine, case.name)
                    if here not in known and case.name in only.get(worker.engine, (case.name,)):
                        outcome = worker.run(case)
                        with lock:
                            known[here] = outcome
                            keep(outcome)
                if (number + 1) % 100 == 0:
                    print(f"{number + 1} of {len(cases)} schemas", file=sys.stderr, flush=True)

        with ThreadPoolExecutor(len(teams)) as pool:
            for done in [pool.submit(work, team, first) for first, team in enumerate(teams)]:
                done.result()
    engines = [worker.engine for worker in teams[0]]
    return {name: [known[name, case.name] for case in cases if (name, case.name) in known] for name in engines}


def _claim(out: Path, run: dict[str, Any]) -> None:
    """Outcomes of one commit, one data set and one set of settings to a folder; SystemExit where it holds others."""
    file = out / RUN
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if known != run and (out / OUTCOMES).exists():
        theirs = (
            "nobody knows which commit" if known is None else f"commit {known['commit']}, or of other data or settings"
        )
        sys.exit(f"{out} holds outcomes of {theirs}: give another folder, or delete {OUTCOMES} to start afresh")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(run), encoding="utf-8")


def _started(name: str, settings: Settings, stack: ExitStack) -> Worker:
    worker = Worker(name, settings)
    stack.callback(worker.close)
    return worker


def _rotated(workers: Sequence[Worker], number: int) -> Iterator[Worker]:
    first = number % len(workers)
    yield from workers[first:]
    yield from workers[:first]


def _kept(out: Path | None) -> dict[tuple[str, str], Outcome]:
    file = out / OUTCOMES if out is not None else None
    if file is None or not file.exists():
        return {}
    outcomes = (Outcome(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines())
    return {(outcome.engine, outcome.case): outcome for outcome in outcomes}


def _keeper(out: Path | None, stack: ExitStack) -> Callable[[Outcome], None]:
    if out is None:
        return _forget
    out.mkdir(parents=True, exist_ok=True)
    file: TextIO = stack.enter_context((out / OUTCOMES).open("a", encoding="utf-8"))

    def keep(outcome: Outcome) -> None:
        file.write(json.dumps(asdict(outcome)) + "\n")
        file.flush()

    return keep


def _forget(_outcome: Outcome) -> None:
    """Without `--out` nothing is kept."""


def _print(
    engines: Sequence[str], outcomes: dict[str, list[Outcome]], judged: dict[str, dict[str, list[Judged]]]
) -> None:
    by_engine = {name: figures(outcomes[name], _flat(judged[name])) for name in engines}
    print_figures(by_engine)
    for name in engines:
        print_confusion(name, confusion(outcomes[name], judged[name]))


def _line(
    options: argparse.Namespace,
    settings: Settings,
    outcomes: dict[str, list[Outcome]],
    judged: dict[str, dict[str, list[Judged]]],
    starts: dict[str, float],
    packages: Sequence[str],
) -> dict[str, Any]:
    engines = {name: figures(outcomes[name], _flat(judged[name])) for name in options.engines}
    for name, start_s in starts.items():
        engines[name]["start_s"] = start_s
    configuration = {**asdict(settings), "tokenizer": Path(settings.tokenizer).name}
    chosen = ("limit", "sample", "slow_sample", "jobs", "only", "quick")
    configuration |= {name: getattr(options, name) for name in chosen}
    return record(
        "maskbench",
        {"engines": engines},
        configuration=configuration,
        seeds=[0] if options.sample or options.slow_sample else [],
        repeats=settings.repeats,
        data_sha256=data_sha256(options.data),
        packages=packages,
    )


def _flat(judged: dict[str, list[Judged]]) -> list[Judged]:
    return [one for tests in judged.values() for one in tests]


def _engines(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in MODULES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"unknown engines {', '.join(unknown)}; known: {', '.join(MODULES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
