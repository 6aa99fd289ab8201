"""Documents under adversarial random logits and tight budgets, straight through grammar service and matcher.

`python -m tests.grammar.adversary DATA.jsonl[.xz] [--documents N] [--vocabulary qwen|bytes] [--seed S]` prints a table
and, as the last line, one JSON object. A sample of the same runs in CI (`test_adversary`). The loop is the decode
loop's rule and nothing else: mask, draw, accept, keep only what can still be ended, retreat from what fails, end.
Times are of this thread's processor, so that a busy machine does not show in them.
"""

from __future__ import annotations

import argparse
import json
import lzma
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import EngineConfig, Limits
from engine.errors import EngineError
from engine.grammar import NO_ENDING, CompiledGrammar, GrammarService
from engine.grammar.masks.bitmask import to_bools, words
from engine.request import Constraint
from engine.schema.reading.validator import Validator

LARGEST_BUDGET = 256


@dataclass
class Tally:
    """What came out. `wrong` must stay empty."""

    documents: int = 0
    schemas: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    invalid_keywords: Counter[str] = field(default_factory=Counter)
    unnamed: Counter[str] = field(default_factory=Counter)
    """Invalid although no verdict is `checked`, by what failed; each is in `wrong` too."""
    wrong: list[str] = field(default_factory=list)
    step_us: list[float] = field(default_factory=list)
    close_ms: list[float] = field(default_factory=list)
    longest_ending: int = 0


class Adversary:
    """Draws uniformly from every mask, so structure gets no help from a model's good sense."""

    def __init__(self, service: GrammarService, seed: int) -> None:
        self.service = service
        self.draw = random.Random(seed)
        self.row = np.zeros((1, words(service.vocabulary.size)), dtype=np.int32)
        self.retries = Limits().retries

    def document(self, grammar: CompiledGrammar, validator: Validator, name: str, tally: Tally) -> None:
        least = grammar.min_tokens
        budget = least if least > LARGEST_BUDGET else self.draw.randint(least, LARGEST_BUDGET)
        matcher, status = self._write(grammar, budget, tally)
        tally.documents += 1
        text = b"".join(self.service.vocabulary.texts[token] or b"" for token in matcher.token_ids)
        verdict = validator.check(text)
        if status in ("complete", "closed") and not verdict.ok:
            status = "invalid"
            tally.invalid_keywords[verdict.keyword or "?"] += 1
            if not any(named.verdict == "checked" for named in grammar.verdicts):
                cause = "repeated keys" if "duplicate key" in verdict.message else verdict.keyword or "?"
                tally.unnamed[cause] += 1
                tally.wrong.append(f"{name}: {verdict.message} although nothing is only checked")
        if matcher.tokens > budget:
            tally.wrong.append(f"{name}: {matcher.tokens} tokens in a budget of {budget}")
        if status in ("complete", "closed", "invalid") and not grammar.accepts(text):
            tally.wrong.append(f"{name}: the grammar does not accept {text[:80]!r} to the end")
        if status == "dead_end" and grammar.judge is None:
            tally.wrong.append(f"{name}: dead end after {text[-80:]!r}")
        tally.statuses[status] += 1

    def _write(self, grammar: CompiledGrammar, budget: int, tally: Tally) -> tuple[Any, str]:
        matcher, retries = grammar.matcher(), 0
        while not matcher.terminated:
            token = self._token(matcher)
            if token is None or not matcher.accept(token):
                return matcher, "dead_end"
            start = time.thread_time()
            fits = matcher.fits(budget - matcher.tokens)
            tally.step_us.append((time.thread_time() - start) * 1e6)
            if not fits:
                return matcher, self._close(matcher, budget, tally)
            if retries <= self.retries and matcher.retreat() is not None:
                retries += 1
        return matcher, "complete"

    def _token(self, matcher: Any) -> int | None:
        if not matcher.fill(self.row, 0):
            return None
        legal = np.flatnonzero(to_bools(self.row[0], self.service.vocabulary.size))
        return int(legal[self.draw.randrange(len(legal))])

    def _close(self, matcher: Any, budget: int, tally: Tally) -> str:
        start = time.thread_time()
        matcher.rollback(1)
        ending = matcher.ending(budget - matcher.tokens)
        tally.close_ms.append((time.thread_time() - start) * 1e3)
        if ending is None or not all(matcher.accept(token) for token in ending):
            return "dead_end"
        tally.longest_ending = max(tally.longest_ending, len(ending))
        return "closed"


def run(service: GrammarService, cases: list[dict[str, Any]], documents: int, seed: int, seconds: float = 1e9) -> Tally:
    """`documents` documents spread over the schemas that compile, or as many as `seconds` allow."""
    tally, adversary, deadline = Tally(), Adversary(service, seed), time.monotonic() + seconds
    share = max(1, -(-documents // max(1, len(cases))))
    for number, case in enumerate(cases):
        if time.monotonic() > deadline:
            break
        tally.schemas += 1
        try:
            grammar = service.compile(Constraint.json_schema(case["schema"], conformance=("tight", "spec")[number % 2]))
            validator = Validator(case["schema"])
            if grammar.min_tokens == NO_ENDING:
                tally.refused["the vocabulary cannot write it"] += 1
                continue
        except EngineError as error:
            tally.refused[error.type] += 1
            continue
        for _ in range(min(share, documents - tally.documents)):
            adversary.document(grammar, validator, case.get("name", "?"), tally)
    return tally


def percentiles(values: list[float]) -> dict[str, float]:
    points = np.percentile(values or [0.0], [50, 90, 99, 100])
    return dict(zip(("p50", "p90", "p99", "max"), (round(float(p), 3) for p in points), strict=True))


def _resident_mb(field_name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) >> 10 for line in lines if line.startswith(field_name)), 0)


def read_cases(path: Path) -> list[dict[str, Any]]:
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main() -> int:
    from tests.grammar.fakes import QWEN_VOCAB_SIZE, byte_tokenizer, qwen

    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--schemas", type=int, default=None)
    parser.add_argument("--vocabulary", choices=("qwen", "bytes"), default="qwen")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--compile-s", type=float, default=10.0)
    args = parser.parse_args()
    tokenizer, size = (qwen(), QWEN_VOCAB_SIZE) if args.vocabulary == "qwen" else (byte_tokenizer(), 258)
    service = GrammarService(tokenizer, size, config=EngineConfig(limits=Limits(compile_s=args.compile_s)))
    tally = run(service, read_cases(args.data)[: args.schemas], args.documents, args.seed, args.seconds)
    service.close()
    for line in tally.wrong[:20]:
        print("WRONG", line)
    record = {
        "documents": tally.documents,
        "schemas": tally.schemas,
        "wrong": len(tally.wrong),
        "statuses": dict(tally.statuses),
        "invalid_by_keyword": dict(tally.invalid_keywords.most_common()),
        "invalid_share_by_keyword": {
            keyword: f"{count / tally.documents:.3%}" for keyword, count in tally.invalid_keywords.most_common()
        },
        "invalid_where_nothing_is_checked": dict(tally.unnamed),
        "refused": dict(tally.refused),
        "fits_us": percentiles(tally.step_us),
        "close_ms": percentiles(tally.close_ms),
        "longest_ending": tally.longest_ending,
        "processor_s": round(time.process_time(), 1),
        "resident_mb": {"at_most": _resident_mb("VmHWM"), "at_the_end": _resident_mb("VmRSS")},
    }
    for name, value in record.items():
        print(f"{name:20} {value}")
    print(json.dumps(record))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
