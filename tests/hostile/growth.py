"""No request holds what others wait for, however it grows: `python -m tests.hostile.growth [--every K] [--only PART]`.

Each family of `families` is sent through a server at every doubling from 4 until it is refused, its text reaches
`limits.schema_bytes` or grows no longer, or its number is one that doubles can no longer tell apart: to /check, then to
/generate. Pieces are the CPU time of one thread without a pause: a turn of the decode thread, a callback of the event
loop, a load on the light line (and, for comparison, one on the bulk line). The model is a tiny one of random weights,
the tokenizer that of the embedded model. Prints a line for what is over its bound and, last, one JSON object; ends with
1 when something was.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness.models import tiny_config
from engine.config import Limits
from engine.decode.core.engine_core import EngineCore
from engine.decode.engine import Engine
from engine.plain_json import DEEPEST
from engine.sandbox.lanes import Lane
from engine.sandbox.pool import Pool
from engine.sandbox.task import Task
from tests.hostile.families import Family, families
from tests.serve.fakes import Server

PIECE_S = 0.05
SLACK_S = 0.1
"""A job is looked at every few milliseconds, and a little later on a busy machine."""
TYPED = {"SchemaInvalid", "SchemaRefused", "LimitExceeded", "JudgingLimit", "BudgetTooSmall", "Invalid", "DeadEnd"}
ANSWERS = {200, 413, 422}
TOO_DEEP = (400, "RequestError")
"""For a body that is nested deeper than any may be, before anybody looks at what is in it."""
LAST = 1 << 53


@dataclass
class Pieces:
    """The longest piece of each kind since `clear`, in CPU seconds, and what the jobs of the sandbox took."""

    longest: dict[str, float] = field(default_factory=dict)

    def note(self, kind: str, seconds: float) -> None:
        self.longest[kind] = max(self.longest.get(kind, 0.0), seconds)

    def clear(self) -> None:
        self.longest.clear()


def timed(pieces: Pieces, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, its CPU time noted."""

    def noting(*args: Any, **named: Any) -> Any:
        started = time.thread_time()
        try:
            return call(*args, **named)
        finally:
            pieces.note(kind, time.thread_time() - started)

    return noting


@contextmanager
def measured() -> Iterator[Pieces]:
    """Every engine and event loop of this process, while it lasts."""
    pieces = Pieces()
    turn, run, put, remove = EngineCore.tick, asyncio.Handle._run, Lane.put, Pool._remove

    def put_timed(self: Lane, owner: Any, work: Callable[[], Any]) -> Future[Any]:
        kinds = {"load": "light load", "load-bulk": "bulk load"}
        return put(self, owner, timed(pieces, kinds[self._name], work) if self._name in kinds else work)

    def remove_noted(self: Pool, task: Task) -> None:
        pieces.note(task.job.module.split(".")[1] + " job", task._used_s)
        remove(self, task)

    EngineCore.tick = timed(pieces, "decode turn", turn)  # type: ignore[method-assign]
    asyncio.Handle._run = timed(pieces, "event loop", run)  # type: ignore[method-assign, attr-defined]
    Lane.put, Pool._remove = put_timed, remove_noted  # type: ignore[method-assign]
    try:
        yield pieces
    finally:
        EngineCore.tick, asyncio.Handle._run = turn, run  # type: ignore[method-assign, attr-defined]
        Lane.put, Pool._remove = put, remove  # type: ignore[method-assign]


@dataclass
class Report:
    """What was sent, how it was answered, and what was over a bound."""

    limits: Limits
    asked: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    worst: dict[str, tuple[float, str]] = field(default_factory=dict)
    over: list[str] = field(default_factory=list)

    def look(self, name: str, pieces: Pieces) -> None:
        bounds = {"decode turn": PIECE_S, "event loop": PIECE_S, "light load": PIECE_S}
        bounds |= {"grammar job": self.limits.compile_s + SLACK_S, "judge job": self.limits.judge_s + SLACK_S}
        for kind, seconds in pieces.longest.items():
            self.worst[kind] = max(self.worst.get(kind, (0.0, "")), (seconds, name))
            if seconds > bounds.get(kind, float("inf")):
                self.fault(f"{name}: {kind} of {seconds * 1e3:.0f} ms")

    def fault(self, text: str) -> None:
        self.over.append(text)
        print(text, flush=True)


def grow(family: Family, server: Server, pieces: Pieces, report: Report) -> None:
    """One family at every doubling."""
    n, before = 4, ""
    while True:
        name, schema = f"{family.name}, {n}", family.at(n)
        text = json.dumps(schema)
        if text == before or n > LAST:
            report.ends["grows no longer"] += 1
            return
        before = text
        pieces.clear()
        refusal = ask(server, "/check", {"schema": schema}, name, report)
        if refusal is None:
            body = {"prompt": "x", "schema": schema, "max_tokens": 200, "seed": n, "deadline_s": 60.0}
            ask(server, "/generate", body, name, report)
        report.look(name, pieces)
        if refusal is not None or len(text) >= report.limits.schema_bytes:
            report.ends[refusal or "size"] += 1
            return
        n *= 2


def ask(server: Server, route: str, body: Any, name: str, report: Report) -> str | None:
    """The type of a refusal, or None; what is not typed is a fault."""
    report.asked += 1
    answer = server.client.post(route, json=body, timeout=300)
    found = answer.json()
    kind = (found.get("error") or {}).get("type")
    typed = kind is None or kind in TYPED or answer.status_code == 413
    deep = (answer.status_code, kind) == TOO_DEEP and depth(body) > DEEPEST
    if not deep and not (typed and answer.status_code in ANSWERS):
        report.fault(f"{name}: {route} answers {answer.status_code} {json.dumps(found)[:300]}")
    if kind is None and found.get("supported") is False:
        return "refused by check"
    return kind


def depth(value: Any) -> int:
    """Containers inside one another."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def run(chosen: list[Family], limits: Limits) -> Report:
    report = Report(limits)
    with tempfile.TemporaryDirectory() as folder, measured() as pieces:
        engine = Engine(tiny_config(Path(folder), max_batch=4, limits=limits, cache_dir=Path(folder)))
        with Server(engine) as server:
            ask(server, "/generate", {"prompt": "x", "schema": True, "max_tokens": 20}, "first", report)
            for family in chosen:
                grow(family, server, pieces, report)
        engine.close()
    return report


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="only every Kth family")
    parser.add_argument("--only", nargs="*", default=[""], help="only families whose names hold one of these")
    parser.add_argument("--compile-s", type=float, default=Limits().compile_s)
    parser.add_argument("--schema-bytes", type=int, default=Limits().schema_bytes)
    args = parser.parse_args()
    chosen = [family for family in families()[:: args.every] if any(part in family.name for part in args.only)]
    started = time.monotonic()
    report = run(chosen, Limits(compile_s=args.compile_s, schema_bytes=args.schema_bytes))
    worst = {kind: [round(seconds * 1e3, 1), name] for kind, (seconds, name) in sorted(report.worst.items())}
    print(json.dumps({
        "bench": "growth", "families": len(chosen), "requests": report.asked, "over": len(report.over),
        "ends": report.ends, "worst_ms": worst, "compile_s": args.compile_s,
        "wall_s": round(time.monotonic() - started),
    }))  # fmt: skip
    return 1 if report.over else 0


if __name__ == "__main__":
    sys.exit(main())
