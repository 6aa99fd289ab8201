"""Clients of an engine that ask, wait, cancel and vanish at random, and what they saw."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

from bench.datasets.lift_documents import all_schemas
from engine import Constraint, Engine, EngineError, Request, SamplingParams

KINDS = {"free": 3, "schema": 6, "samples": 1, "deadline": 1, "cancel": 1, "vanish": 1, "refused": 1}
"""What a client does next, by weight."""
ARRIVALS_PER_S = 4.0
"""Of one client, while it is not waiting: a few of them keep the slots full."""
SCHEMAS = all_schemas()
REFUSED: dict[str, dict[str, Any]] = {
    "SchemaRefused": {"constraint": Constraint.json_schema({"$ref": "https://example.com/schema"})},
    "SchemaInvalid": {"constraint": Constraint.json_schema({"type": "strange"})},
    "BudgetTooSmall": {
        "constraint": Constraint.json_schema({"type": "string", "minLength": 60}),
        "sampling": SamplingParams(max_tokens=4),
    },
    "PromptTooLong": {"prompt": "word " * 4000},
}


@dataclass(slots=True)
class Tally:
    """What the clients asked and saw; one lock."""

    asked: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    queue_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: str, expected: bool, queue_ms: float | None = None) -> None:
        with self.lock:
            self.outcomes[f"{kind}: {outcome}"] += 1
            if not expected:
                self.wrong.append(f"{kind}: {outcome}")
            if queue_ms is not None:
                self.queue_ms.append(queue_ms)


def keep_asking(engine: Engine, rng: random.Random, until: float, tally: Tally) -> None:
    """One client, until that second of the monotonic clock."""
    while time.monotonic() < until:
        time.sleep(rng.expovariate(ARRIVALS_PER_S))
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        with tally.lock:
            tally.asked += 1
        try:
            (_be_refused if kind == "refused" else _ask)(engine, rng, kind, tally)
        except Exception as error:  # noqa: BLE001 - anything untyped is what a soak is there to find
            tally.add(kind, repr(error)[:80], expected=False)


def _be_refused(engine: Engine, rng: random.Random, kind: str, tally: Tally) -> None:
    name, fields = rng.choice(list(REFUSED.items()))
    try:
        result = engine.generate(Request(**{"prompt": "x", **fields}))
        # Another client cancels whichever request it meets, this one too.
        tally.add(kind, f"{name} not raised: {result.status}", expected=result.status == "cancelled")
    except EngineError as error:
        tally.add(kind, error.type, expected=error.type in (name, "QueueFull"))


def _ask(engine: Engine, rng: random.Random, kind: str, tally: Tally) -> None:
    """One request and the judgement of its answer."""
    try:
        future = engine.submit(_request(rng, kind))
    except EngineError as error:
        tally.add(kind, error.type, expected=error.type == "QueueFull")
        return
    if kind in ("vanish", "cancel"):
        time.sleep(rng.uniform(0, 0.3))
    if kind == "vanish":
        future.cancel()
    if kind == "cancel":
        engine.cancel(next(iter(engine.in_flight()), "none"))
    try:
        result = future.result(300)
    except CancelledError:
        tally.add(kind, "CancelledError", expected=kind == "vanish")
        return
    honest = {"complete", "closed", "cancelled"} | ({"length"} if kind != "schema" else set())
    honest |= {"timeout"} if kind == "deadline" else set()
    fine = result.status in honest and (result.valid or result.status not in ("complete", "closed"))
    tally.add(kind, result.status, fine, result.timings_ms.queue)


def _request(rng: random.Random, kind: str) -> Request:
    sampling = SamplingParams(
        max_tokens=rng.randint(40, 160), seed=rng.getrandbits(32), temperature=rng.choice([0.0, 0.9]),
        n=3 if kind == "samples" else 1,
    )  # fmt: skip
    schema = rng.choice(SCHEMAS) if kind in ("schema", "deadline") else None
    return Request(
        prompt=" ".join(["shared prefix of many words"] * 8 + ["word"] * rng.randint(1, 200)),
        constraint=Constraint.json_schema(schema) if schema else None,
        sampling=sampling,
        deadline_s=rng.uniform(0.001, 0.5) if kind == "deadline" else None,
    )
