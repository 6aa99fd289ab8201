"""Many clients for a long time: every request answered once with the right status, nothing leaked.

    python -m bench.soak [--minutes 10] [--clients 64] [--seed 0] [--quick] [--out DIR]
    python -m bench.soak --hostile ...   clients that want to stop a server: see bench.hostile

A tiny model with random weights and the embedded tokenizer, so that scheduling, masks and endings are the work. Clients
arrive at random with free text, schemas, samples, deadlines, cancellations and requests that must be refused. Ceiling:
100 % answered as expected, no request, slot or queue place held at the end, caches within their limits, resident
memory flat in the second half.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.record import emit, record
from bench.tiny import tiny_config
from engine import Constraint, Engine, EngineError, Limits, Request, SamplingParams

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
LONG_S, MOST_GROWTH = 300.0, 0.05
"""From this many seconds on, memory that grows by more than this share in the second half is a leak."""
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
    """What the clients saw; one lock."""

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


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--hostile" in arguments:
        from bench import hostile

        return hostile.main([argument for argument in arguments if argument != "--hostile"])
    options = _parser().parse_args(arguments)
    seconds = 1.5 if options.quick else options.minutes * 60
    clients = min(options.clients, 8) if options.quick else options.clients
    print(f"ceiling: every request of {clients} clients in {seconds:g} s answered as expected, nothing left behind")
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(Path(folder), clients, seconds, options.seed)
    for name, value in figures.items():
        print(f"{name:16} {value}")
    configuration = {"clients": clients, "seconds": seconds, "max_batch": 8, "queue": 48}
    emit(record("soak", figures, configuration=configuration, seeds=[options.seed]), options.out)
    leaked = any(figures["left"].values()) or (seconds >= LONG_S and figures["growth_share"] > MOST_GROWTH)
    return 0 if figures["answered"] == figures["requests"] and not figures["wrong"] and not leaked else 1


def soak(folder: Path, clients: int, seconds: float, seed: int) -> dict[str, Any]:
    """Run the clients against one engine and look at what is left afterwards."""
    settings = tiny_config(folder, limits=Limits(queue=48), prefix_cache_bytes=8 << 20)
    tally, asked = Tally(), Counter[str]()
    with Engine(settings) as engine:
        for path in sorted(SCHEMAS.glob("*.json")):
            engine.grammars.compile(Constraint.json_schema(path.read_text()))
        until, memory = time.monotonic() + seconds, []
        threads = [
            threading.Thread(target=_client, args=(engine, random.Random(seed * 1000 + i), until, tally, asked))
            for i in range(clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(_resident_mib())
            time.sleep(min(1.0, seconds / 20))
        settled = time.monotonic() + 5.0  # a request that was cancelled last is freed at the next step
        while any((left := left_behind(engine)).values()) and time.monotonic() < settled:
            time.sleep(0.05)
    queue = sorted(tally.queue_ms)
    return {
        "requests": sum(asked.values()),
        "answered": sum(tally.outcomes.values()),
        "wrong": tally.wrong[:20],
        "left": left,
        "queue_p50_ms": round(statistics.median(queue), 1),
        "queue_p99_ms": round(queue[int(len(queue) * 0.99)], 1),
        "resident_mib": {"tenth": memory[len(memory) // 10], "end": memory[-1], "max": max(memory)},
        "growth_share": _growth(memory),
        "outcomes": dict(sorted(tally.outcomes.items())),
    }


def left_behind(engine: Engine) -> dict[str, int]:
    """What should be 0 when nobody asks any more: requests, slots and queue places held, bytes over a cache's limit."""
    crew = engine._thread._crew
    scheduler, prefixes, blocks = crew._scheduler, crew._prompts.stored, engine.loaded.runner.blocks
    return {
        "requests": engine.info()["in_flight"],
        "slots": engine.loaded.runner.max_batch - len(scheduler._free),
        "blocks": sum(len(blocks.table(slot)) for slot in range(engine.loaded.runner.max_batch)),
        "samples": len(scheduler.running) + sum(map(len, scheduler._waiting.values())),
        "cache_bytes_over": max(0, prefixes.nbytes - engine.config.prefix_cache_bytes),
    }


def _growth(memory: Sequence[float]) -> float:
    """Resident memory of the last tenth over that around the middle, less 1: what still grows after caches are full."""
    tenth = max(1, len(memory) // 10)
    middle = memory[len(memory) // 2 - tenth // 2 :][:tenth]
    return round(statistics.median(memory[-tenth:]) / statistics.median(middle) - 1, 4)


def _client(engine: Engine, rng: random.Random, until: float, tally: Tally, asked: Counter[str]) -> None:
    while time.monotonic() < until:
        time.sleep(rng.expovariate(4.0))
        kind = rng.choices(
            ["free", "schema", "samples", "deadline", "cancel", "vanish", "refused"], [3, 6, 1, 1, 1, 1, 1]
        )[0]
        with tally.lock:
            asked[kind] += 1
        try:
            _ask(engine, rng, kind, tally)
        except Exception as error:  # noqa: BLE001 - anything untyped is what a soak is there to find
            tally.add(kind, repr(error)[:80], expected=False)


def _ask(engine: Engine, rng: random.Random, kind: str, tally: Tally) -> None:
    """One request and the judgement of its answer."""
    if kind == "refused":
        name, fields = rng.choice(list(REFUSED.items()))
        try:
            result = engine.generate(Request(**{"prompt": "x", **fields}))
            # Another client cancels whichever request it meets, this one too.
            tally.add(kind, f"{name} not raised: {result.status}", expected=result.status == "cancelled")
        except EngineError as error:
            tally.add(kind, error.type, expected=error.type in (name, "QueueFull"))
        return
    try:
        future = engine.submit(_request(rng, kind))
    except EngineError as error:
        tally.add(kind, error.type, expected=error.type == "QueueFull")
        return
    if kind == "vanish":
        time.sleep(rng.uniform(0, 0.3))
        future.cancel()
    if kind == "cancel":
        time.sleep(rng.uniform(0, 0.3))
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
    schema = rng.choice(sorted(SCHEMAS.glob("*.json"))).read_text() if kind in ("schema", "deadline") else None
    return Request(
        prompt=" ".join(["shared prefix of many words"] * 8 + ["word"] * rng.randint(1, 200)),
        constraint=Constraint.json_schema(schema) if schema else None,
        sampling=sampling,
        deadline_s=rng.uniform(0.001, 0.5) if kind == "deadline" else None,
    )


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 2**20, 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.soak", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="8 clients, 1.5 seconds")
    parser.add_argument("--hostile", action="store_true", help="bench.hostile with the other options")
    parser.add_argument("--out", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main())
