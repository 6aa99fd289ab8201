"""The official JSON Schema suite against our grammars: a table by keyword and an expected-outcome file.

    python -m bench.suite DATA [--expected FILE] [--update] [--engine ours] [--tokenizer bytes]

DATA is JSON lines with `draft`, `file`, `description`, `schema`, `tests`. One letter a test:

    .  as labelled          n  valid but refused, and a verdict says `narrowed`     r  the schema is refused by name
    c  invalid but accepted, and a verdict says `checked` where it fails            X  wrong: nothing names it

`--expected` compares with a committed file of these letters by file and group, `--update` writes it. `format.json` of
either draft is left out: it says that formats are not asserted, and here they are. Ceiling: no X.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from bench.conformance.engine_process import EngineProcess, Outcome, Settings
from bench.conformance.judged import Judge, Judged
from bench.datasets.cases import Case, data_files, load_cases
from bench.datasets.vocabulary import BYTES
from bench.harness.commandline import Options
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from bench.peers import MODULES

LEFT_OUT = ("draft7/format.json", "draft2020-12/format.json")
LETTERS = ".ncrX"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when no test is wrong and nothing differs from the expected outcomes, else 1."""
    options = _options(arguments)
    cases = [case for case in load_cases(options.data) if case.group not in LEFT_OUT]
    print(f"ceiling: 0 wrong of {sum(len(case.tests) for case in cases)} tests in {len(cases)} groups", flush=True)
    settings = Settings(options.tokenizer, conformance=options.conformance, repeats=1)
    with closing(EngineProcess(options.engine, settings)) as process:
        outcomes = [process.run(case) for case in cases]
    judged = Judge(cases).judge_all(outcomes)
    found = {outcome.case: letters(outcome, judged[outcome.case]) for outcome in outcomes}
    totals = _print(cases, found)
    differing = compare(options.expected, _by_file(cases, found), options.update)
    figures = {"tests": sum(totals.values()), "outcomes": dict(totals), "differing": len(differing)}
    configuration = {name: getattr(options, name) for name in ("engine", "tokenizer", "conformance")}
    emit(record("suite", figures, configuration=configuration, data=data_files(options.data)), options.out)
    return 1 if totals["X"] or differing else 0


def letters(outcome: Outcome, tests: Sequence[Judged]) -> str:
    """One letter a test, in order."""
    return "".join(_letter(outcome, test) for test in tests)


def _letter(outcome: Outcome, test: Judged) -> str:
    if not outcome.compiled:
        return "X" if outcome.crashed else "r"
    if test.accepted == test.valid:
        return "."
    if test.valid:
        return "n" if outcome.narrowed else "X"
    return "c" if test.named else "X"


def _print(cases: Sequence[Case], found: Mapping[str, str]) -> Counter[str]:
    by_file: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        by_file[case.group] += Counter(found[case.name])
    totals = sum(by_file.values(), Counter[str]())
    rows = [[name, *(str(count[letter]) for letter in LETTERS)] for name, count in sorted(by_file.items())]
    print_table(["file", "as labelled", "narrowed", "checked", "refused", "WRONG"], rows)
    print_table(["all", *LETTERS], [["", *(str(totals[letter]) for letter in LETTERS)]])
    return totals


def _by_file(cases: Sequence[Case], found: Mapping[str, str]) -> dict[str, list[str]]:
    """Letters of the groups of each file, in order: no text of the suite, so that the file can be kept anywhere."""
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(found[case.name])
    return dict(sorted(groups.items()))


def compare(file: Path | None, found: Mapping[str, list[str]], update: bool) -> list[str]:
    """Files of the suite whose letters differ from the expected ones; each is printed."""
    if file is None:
        return []
    if update:
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(letters)}" for name, letters in found.items())
        file.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
        return []
    expected = json.loads(file.read_text(encoding="utf-8"))
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    for name in differing:
        print(f"differs: {name}: expected {expected.get(name)}, found {found.get(name)}")
    return differing


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("suite", __doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--expected", type=Path, help="JSON file {file: [letters of each group]} to compare with")
    parser.add_argument("--update", action="store_true", help="write the expected file instead of comparing")
    parser.add_argument("--engine", choices=sorted(MODULES), default="ours")
    parser.add_argument("--tokenizer", default=BYTES)
    parser.add_argument("--conformance", choices=("spec", "tight"), default="spec")
    return parser.read(arguments)


if __name__ == "__main__":
    sys.exit(main())
