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

from bench.cases import Case, data_sha256, load_cases
from bench.maskbench import OWN_DATA
from bench.naming import failures, named, validator
from bench.ours import Ours
from bench.peers import Compiled, RefusedError
from bench.record import emit, record
from bench.tables import print_table
from bench.vocabulary import BYTES, Vocabulary, load_vocabulary
from engine.grammar.matcher import NO_ENDING, Matcher
from engine.schema.validator import JsonInvalid, parse_json

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
        self.vocabulary = vocabulary
        self._steps = steps
        width = (vocabulary.width + 31) // 32
        self._mask = numpy.zeros((1, width), dtype=numpy.int32)
        single = [token is not None and len(token) == 1 for token in vocabulary.tokens]
        self._single = numpy.array(single, dtype=bool)

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
            if token in self.vocabulary.stop_ids:
                return self._bytes(written)
            written.append(token)
        ending = matcher.ending(NO_ENDING)
        return "dead end" if ending is None else self._bytes([*written, *ending[:-1]])

    def _legal(self, matcher: Matcher, rng: random.Random) -> Any:
        """Ids to choose from: all legal ones, or half of the time the single bytes among them; None where none is."""
        if not matcher.fill(self._mask, 0):
            return None
        bits = numpy.unpackbits(self._mask[0].view(numpy.uint8), bitorder="little")[: self.vocabulary.width]
        legal = numpy.flatnonzero(bits)
        single = legal[self._single[legal]]
        return single if len(single) and rng.random() < 0.5 else legal

    def _bytes(self, tokens: Sequence[int]) -> bytes:
        return b"".join(self.vocabulary.tokens[token] or b"" for token in tokens)


def judge(text: bytes | str, subject: Subject) -> str:
    """'ok', 'checked' (invalid, and a verdict says so), or one of WRONG."""
    if isinstance(text, str):
        return text
    try:
        value = parse_json(text)
    except JsonInvalid as error:
        if "duplicate key" in str(error):
            return "checked" if _is_checked(subject) else "repeated key"
        return "not UTF-8" if "UTF-8" in str(error) else "not JSON"
    found = failures(subject.case.schema, subject.check, value)
    if not found:
        return "ok"
    return "checked" if named(found, subject.compiled.verdicts) else "invalid"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when nothing is wrong, else 1; each wrong text is printed with its schema's name."""
    options = _parse(arguments)
    cases = load_cases(options.data)
    random.Random(options.seed).shuffle(cases)
    cases = cases[: options.schemas]
    levels = {"byte": BYTES, "token": options.tokenizer}
    names = [name for name in levels if options.level in (name, "both")]
    print(f"ceiling: 0 wrong of {options.texts} texts through {len(cases)} schemas", flush=True)
    counts = {name: _level(name, levels[name], cases, options) for name in names}
    print_table(["level", "ok", "checked", *WRONG], [[name, *_row(count)] for name, count in counts.items()])
    figures = {"levels": {name: dict(count) for name, count in counts.items()}}
    configuration = {key: getattr(options, key) for key in ("texts", "schemas", "steps", "level", "conformance")}
    line = record(
        "random_walk", figures, configuration=configuration, seeds=[options.seed], data_sha256=data_sha256(options.data)
    )
    emit(line, options.out)
    return 1 if any(count[word] for count in counts.values() for word in WRONG) else 0


def _level(name: str, tokenizer: str, cases: Sequence[Case], options: argparse.Namespace) -> Counter[str]:
    """All texts of one level, spread evenly over the schemas that compile."""
    vocabulary = load_vocabulary(tokenizer)
    engine = Ours(vocabulary, options.conformance)
    walker = Walker(vocabulary, options.steps)
    shares = 2 if options.level == "both" else 1
    each = max(1, options.texts // shares // max(1, len(cases)))
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


def _is_checked(subject: Subject) -> bool:
    return any(verdict["verdict"] == "checked" for verdict in subject.compiled.verdicts)


def _row(count: Counter[str]) -> list[str]:
    return [str(count[word]) for word in ("ok", "checked", *WRONG)]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.random_walk", description="Random texts through our grammars"
    )
    parser.add_argument("data", type=Path, nargs="?", default=OWN_DATA)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--schemas", type=int, default=300)
    parser.add_argument("--steps", type=int, default=80, help="random steps before the text is closed")
    parser.add_argument("--level", choices=("byte", "token", "both"), default="both")
    parser.add_argument("--tokenizer", default=BYTES, help="the vocabulary of the token level")
    parser.add_argument("--conformance", choices=("spec", "tight"), default="spec")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="200 texts through our own schemas, tight, byte level")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.texts, options.level, options.conformance = 200, "byte", "tight"
    return options


if __name__ == "__main__":
    sys.exit(main())
