"""Random texts through our grammars, byte by byte and token by token: each must be UTF-8, JSON and valid.

    python -m bench.random_walk DATA [--texts 10000] [--schemas 300] [--tokenizer FILE] [--seed 0] [--level both]

A walk takes a random legal token at every step (half of the time one that writes a single byte, so that strings end)
and, after `--steps`, the shortest ending. Where a schema carries a `checked` verdict an invalid text is counted apart.
Ceiling: 0 texts that are not UTF-8, not JSON, or not valid without a `checked` verdict.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

from bench.conformance.failures import failures, named, validator
from bench.datasets.cases import OWN_CASES, Case, data_files, load_cases
from bench.datasets.vocabulary import BYTES, Vocabulary, load_vocabulary
from bench.harness.commandline import Options
from bench.harness.record import emit, record
from bench.harness.tables import print_table
from bench.peers import Compiled, RefusedError
from bench.peers.ours import Ours
from engine.grammar import NO_ENDING, Matcher
from engine.schema.reading.validator import JsonInvalid, parse_json

WRONG = ("not UTF-8", "not JSON", "repeated key", "invalid", "dead end", "desync")


@dataclass(frozen=True, slots=True)
class Subject:
    """A compiled schema with everything needed to judge its texts."""

    case: Case
    compiled: Compiled
    check: Any


class Walker:
    """Random walks through one vocabulary."""

    def __init__(self, vocabulary: Vocabulary, steps: int) -> None:
        self._vocabulary = vocabulary
        self._steps = steps
        self._mask = numpy.zeros((1, (vocabulary.width + 31) // 32), dtype=numpy.int32)
        self._single = numpy.array([token is not None and len(token) == 1 for token in vocabulary.tokens])

    def text(self, matcher: Matcher, rng: random.Random) -> bytes | str:
        """The bytes of one finished text, or the name of what went wrong."""
        written: list[int] = []
        for _ in range(self._steps):
            legal = self._legal(matcher, rng)
            if legal is None:
                return "dead end"
            token = int(legal[rng.randrange(len(legal))])
            if not matcher.accept(token):
                return "desync"
            if token in self._vocabulary.stop_ids:
                return self._bytes(written)
            written.append(token)
        ending = matcher.ending(NO_ENDING)
        return "dead end" if ending is None else self._bytes([*written, *ending[:-1]])

    def _legal(self, matcher: Matcher, rng: random.Random) -> Any:
        """Ids to choose from: all legal ones, or half of the time the single bytes among them; None where none is."""
        if not matcher.fill(self._mask, 0):
            return None
        bits = numpy.unpackbits(self._mask[0].view(numpy.uint8), bitorder="little")[: self._vocabulary.width]
        legal = numpy.flatnonzero(bits)
        single = legal[self._single[legal]]
        return single if len(single) and rng.random() < 0.5 else legal

    def _bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self._vocabulary.tokens[token] or b"" for token in tokens)


def judge(text: bytes | str, subject: Subject) -> str:
    """'ok', 'checked' (invalid, and a verdict says so), or one of WRONG."""
    if isinstance(text, str):
        return text
    verdicts = subject.compiled.verdicts
    try:
        value = parse_json(text)
    except JsonInvalid as error:
        if "duplicate key" in str(error):
            return "checked" if any(one["verdict"] == "checked" for one in verdicts) else "repeated key"
        return "not UTF-8" if "UTF-8" in str(error) else "not JSON"
    found = failures(subject.case.schema, subject.check, value)
    if not found:
        return "ok"
    return "checked" if named(found, verdicts) else "invalid"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when nothing is wrong, else 1; each wrong text is printed with its schema's name."""
    options = _options(arguments)
    cases = load_cases(options.data)
    random.Random(options.seed).shuffle(cases)
    cases = cases[: options.schemas]
    print(f"ceiling: 0 wrong of {options.texts} texts through {len(cases)} schemas", flush=True)
    levels = {"byte": BYTES, "token": options.tokenizer}
    if options.level != "both":
        levels = {options.level: levels[options.level]}
    each = max(1, options.texts // len(levels) // max(1, len(cases)))
    counts = {name: _level(name, tokenizer, cases, each, options) for name, tokenizer in levels.items()}
    words = ("ok", "checked", *WRONG)
    print_table(["level", *words], [[name, *(str(count[word]) for word in words)] for name, count in counts.items()])
    configuration = {key: getattr(options, key) for key in ("texts", "schemas", "steps", "level", "conformance")}
    figures = {"levels": {name: dict(count) for name, count in counts.items()}}
    data = data_files(options.data)
    emit(record("random_walk", figures, configuration=configuration, seeds=[options.seed], data=data), options.out)
    return 1 if any(count[word] for count in counts.values() for word in WRONG) else 0


def _level(name: str, tokenizer: str, cases: Sequence[Case], each: int, options: argparse.Namespace) -> Counter[str]:
    """`each` texts of every schema that compiles."""
    vocabulary = load_vocabulary(tokenizer)
    engine, walker = Ours(vocabulary, options.conformance), Walker(vocabulary, options.steps)
    counts: Counter[str] = Counter()
    for subject in _subjects(engine, cases, counts):
        for number in range(each):
            rng = random.Random(f"{options.seed}:{name}:{subject.case.name}:{number}")
            text = walker.text(subject.compiled.grammar.matcher(), rng)
            word = judge(text, subject)
            counts[word] += 1
            if word in WRONG:
                print(f"{name} {word}: {subject.case.name} [{number}]: {text[:300]!r}", flush=True)
    return counts


def _subjects(engine: Ours, cases: Sequence[Case], counts: Counter[str]) -> Iterator[Subject]:
    for case in cases:
        try:
            compiled = engine.compile(case.schema)
        except RefusedError:
            counts["schemas refused"] += 1
            continue
        counts["schemas"] += 1
        yield Subject(case, compiled, validator(case.schema))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Options("random_walk", __doc__, "200 texts through our own schemas, tight, byte level")
    parser.add_argument("data", type=Path, nargs="?", default=OWN_CASES)
    parser.add(texts=10_000, schemas=300, seed=0)
    parser.add_argument("--steps", type=int, default=80, help="random steps before the text is closed")
    parser.add_argument("--level", choices=("byte", "token", "both"), default="both")
    parser.add_argument("--tokenizer", default=BYTES, help="the vocabulary of the token level")
    parser.add_argument("--conformance", choices=("spec", "tight"), default="spec")
    return parser.read(arguments, texts=200, level="byte", conformance="tight")


if __name__ == "__main__":
    sys.exit(main())
