"""Many runs against models that want no document at all, counted by outcome.

    python -m tests.decode.adversarial_runs [--runs 1000]

Each run takes one of the six bundled schemas, one of ADVERSARIES, a temperature and a budget, all decided by its
number; they share the real engine four at a time. A second validator, which the engine does not use, judges what is
labelled valid. Exit 1 when a `complete` or `closed` document fails it, or when anything but an honest status comes out
of the loop.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import numpy as np

from engine import Constraint, Request, Result, SamplingParams
from engine.decode.engine import Engine
from tests.decode.fakes import EOS, TOKENS, V, fake_engine

SIX = sorted((Path(__file__).parents[2] / "schemas").glob("*.json"))
HONEST = ("invalid", "dead_end")
BUDGETS = (64, 90, 130, 240, 400)
"""Tokens, of bytes mostly; the shortest document of the six needs 63."""
ADVERSARIES: dict[str, Callable[[np.ndarray, Sequence[int]], None]] = {}
"""By name: what an adversary adds to noise, in place, given everything fed so far."""


def adversary(change: Callable[[np.ndarray, Sequence[int]], None]) -> Callable[[np.ndarray, Sequence[int]], None]:
    ADVERSARIES[change.__name__] = change
    return change


@adversary
def noise(_row: np.ndarray, _fed: Sequence[int]) -> None:
    """No wish at all."""


@adversary
def endless(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Never wants to stop, loves letters and escapes: strings run on to the budget."""
    row[EOS] -= 100.0
    row[[ord("a"), ord("\\"), 0xC3, 0xE3]] += 30.0


@adversary
def hasty(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Wants to stop at once."""
    row[EOS] += 100.0


@adversary
def opener(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Opens whatever can be opened."""
    row[[ord(c) for c in '{["']] += 30.0
    row[[ord(c) for c in "}]"]] -= 30.0


@adversary
def parrot(row: np.ndarray, fed: Sequence[int]) -> None:
    """Says the last token again."""
    row[fed[-1]] += 50.0


@adversary
def extreme(row: np.ndarray, _fed: Sequence[int]) -> None:
    """Logits as large as floats of half precision get, both ways."""
    row *= 12_000.0


def request(number: int) -> Request:
    """Run `number`: everything about it follows from it."""
    draw = random.Random(number)
    params = SamplingParams(max_tokens=draw.choice(BUDGETS), seed=number, temperature=draw.choice([0.0, 0.7, 1.5]))
    text = SIX[number % len(SIX)].read_text(encoding="utf-8")
    return Request(prompt=f"{number:06d}", constraint=Constraint.json_schema(text), sampling=params, id=str(number))


def logits_of(fed: Sequence[int]) -> np.ndarray:
    """Noise of the run whose number stands in the prompt, bent by its adversary."""
    number = int(b"".join(TOKENS[i] or b"" for i in fed[:16]).decode().partition("]")[2][:6])
    row = np.random.default_rng([number, len(fed), hash(tuple(fed)) & 0xFFFFFFFF]).normal(0, 5, V).astype(np.float32)
    list(ADVERSARIES.values())[number // len(SIX) % len(ADVERSARIES)](row, fed)
    return row


@cache
def _judge(schema: str) -> Any:
    document = json.loads(schema)
    kind = jsonschema.validators.validator_for(document)
    return kind(document, format_checker=kind.FORMAT_CHECKER)


def outcome(result: Result, number: int) -> str:
    """A status, or what is wrong: `labelled valid and is not`, `exception` (refusals too: every budget suffices)."""
    if result.status in ("complete", "closed"):
        try:
            value = json.loads(result.text)
        except ValueError:
            return "labelled valid and is not"
        right = result.valid and _judge(SIX[number % len(SIX)].read_text(encoding="utf-8")).is_valid(value)
        return result.status if right else "labelled valid and is not"
    if result.status == "invalid" and not (result.verdicts and result.verdicts["checked"]):
        repeated = str((result.error or {}).get("message")).startswith("duplicate key")
        return (
            "invalid: a key repeated where keys are free" if repeated else "exception: invalid, and no verdict says so"
        )
    return result.status if result.status in HONEST else f"exception: {result.status} {result.error}"


def outcomes(runs: int, cache_dir: Path) -> Iterator[str]:
    """The outcome of every run, in order."""
    engine: Engine
    engine, _ = fake_engine(logits_of, cache_dir)
    with engine:
        for number, result in enumerate(engine.generate_each([request(n) for n in range(runs)])):
            assert result.id == str(number)
            yield outcome(result, number)


def is_wrong(outcome: str) -> bool:
    """Whether an outcome breaks a promise."""
    return outcome.startswith(("labelled", "exception"))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.decode.adversarial_runs")
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args(arguments).runs
    with TemporaryDirectory() as folder:
        counts = Counter(outcomes(runs, Path(folder)))
    wrong = sum(count for name, count in counts.items() if is_wrong(name))
    print(f"{runs} runs, {len(SIX)} schemas, {len(ADVERSARIES)} adversaries")
    for name, count in counts.most_common():
        print(f"  {count:5d} {name}")
    print(f"  {counts['labelled valid and is not']:5d} labelled valid that are not; {wrong} wrong in all")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
