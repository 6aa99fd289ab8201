"""MaskBench: what each engine accepts, refuses and lets through, and what its compiles and masks cost.

    python -m bench.maskbench DATA [--sample N] [--engines ours,xgrammar_dynamic,llguidance] [--tokenizer FILE]
                                   [--conformance spec] [--jobs 2] [--quick] [--out DIR]

Engines run interleaved: each schema goes through all of them, the order rotating, each engine in its own process
under one time limit. With `--out` every outcome is kept at once in
`DIR/maskbench.outcomes.jsonl`, and a run that was stopped goes on where it ended, on the same commit, data and settings
only. Ceiling: the invalid documents a perfect engine accepts are 0, the valid ones all.

`ready` is the CPU time from the schema to a matcher, `ready_again` the same once more; `first_fill` are the fills of a
schema's first document the first time, `first_document` all of that together; `fill` is the smallest of the walks.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path

from bench.conformance.engine_process import EngineProcess, Settings
from bench.conformance.judged import Judge
from bench.datasets.cases import OWN_CASES, Case, data_files, load_cases
from bench.datasets.vocabulary import BYTES
from bench.harness.commandline import Options, listed
from bench.harness.record import commit, dirty, emit, record, sha256
from bench.maskbench.figures import confusion, figures, print_confusion, print_engines
from bench.maskbench.interleaved import Outcomes, run
from bench.peers import MODULES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the tables and the JSON line; 0 unless an engine could not start."""
    options = _options(arguments)
    cases = _sample(load_cases(options.data), options.sample)
    settings = Settings(
        options.tokenizer, options.conformance, options.repeats, options.compile_limit, options.walk_limit
    )
    about = {"commit": commit(), "dirty": dirty(), "data_sha256": sha256(data_files(options.data)), **asdict(settings)}
    kept = Outcomes(options.out, about)
    print(f"ceiling: 0 invalid documents accepted, 0 valid ones rejected, {len(cases)} schemas compiled", flush=True)
    with ExitStack() as stack:
        teams = [
            [stack.enter_context(closing(EngineProcess(name, settings))) for name in options.engines]
            for _ in range(options.jobs)
        ]
        outcomes = run(cases, teams, kept)
    packages = sorted({package for team in teams for process in team for package in process.packages})
    judge = Judge(cases)
    judged = {name: judge.judge_all(outcomes[name]) for name in options.engines}
    engines = {name: figures(outcomes[name], judged[name]) for name in options.engines}
    print_engines(engines)
    for process in teams[0]:
        print_confusion(process.engine, confusion(outcomes[process.engine], judged[process.engine]))
        engines[process.engine]["start_s"] = round(process.start_s, 3)
    configuration = {**asdict(settings), "tokenizer": Path(settings.tokenizer).name}
    chosen = ("sample", "jobs", "quick")
    line = record(
        "maskbench", {"engines": engines}, packages=packages, data=data_files(options.data), repeats=settings.repeats,
        configuration=configuration | {name: getattr(options, name) for name in chosen},
        seeds=[0] if options.sample else [],
    )  # fmt: skip
    emit(line, options.out)
    return 0


def _sample(cases: list[Case], size: int | None) -> list[Case]:
    """So many cases, drawn with a fixed seed, in their order; all where there is no size."""
    if size is None:
        return cases
    names = [case.name for case in cases]
    random.Random(0).shuffle(names)
    chosen = set(names[:size])
    return [case for case in cases if case.name in chosen]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("maskbench", __doc__, "small own data, byte vocabulary, one repeat")
    parser.add_argument("data", type=Path, nargs="?", help="MaskBench JSON lines (plain or .xz) or a folder")
    parser.add_argument("--sample", type=int, help="N schemas drawn at random (a larger N adds to a smaller one)")
    parser.add_argument("--engines", type=_engines, default=list(MODULES))
    parser.add_argument("--tokenizer", default=BYTES, help=f"tokenizer.json[.xz], a folder, or '{BYTES}' (default)")
    parser.add_argument("--conformance", choices=("spec", "tight"), default="spec")
    parser.add_argument("--repeats", type=int, default=3, help="walks of each document; a step's smallest counts")
    parser.add_argument("--compile-limit", type=float, default=10.0, help="CPU seconds a schema may take")
    parser.add_argument("--walk-limit", type=float, default=10.0, help="CPU seconds for one document, all walks of it")
    parser.add_argument("--jobs", type=int, default=1, help="schemas at a time; no more than the machine has cores")
    options = parser.read(arguments, repeats=1)
    if options.quick:
        options.data = options.data or OWN_CASES
    if options.data is None or not options.data.exists():
        parser.error(f"no data at {options.data}")
    return options


def _engines(text: str) -> list[str]:
    names: list[str] = listed(str)(text)
    unknown = [name for name in names if name not in MODULES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"unknown engines {', '.join(unknown)}; known: {', '.join(MODULES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
