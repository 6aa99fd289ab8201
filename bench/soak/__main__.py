"""Many clients for a long time: every request answered once with the right status, nothing leaked.

    python -m bench.soak [--minutes 10] [--clients 64] [--seed 0] [--quick] [--out DIR]
    python -m bench.soak --hostile ...   clients that want to stop a server: see bench/soak/hostile.py

A tiny model with random weights and the embedded tokenizer, so that scheduling, masks and endings are the work. Clients
arrive at random with free text, schemas, samples, deadlines, cancellations and requests that must be refused. Ceiling:
100 % answered as expected, no request, slot or queue place held at the end, caches within their limits, resident
memory flat in the second half.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench.datasets.lift_documents import all_schemas
from bench.harness.commandline import Options
from bench.harness.models import tiny_config
from bench.harness.record import emit, record
from bench.harness.statistics import quantile
from bench.harness.tables import print_figures
from bench.soak import hostile
from bench.soak.clients import Tally, keep_asking
from bench.soak.left_behind import left_behind
from engine import Constraint, Engine, Limits

LONG_S, MOST_GROWTH = 300.0, 0.05
"""From this many seconds on, memory that grows by more than this share in the second half is a leak."""
QUEUE, CACHE_BYTES = 48, 8 << 20
"""Small enough that the queue fills and prefixes are let go within the quick form too."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every answer was as expected and nothing was left."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--hostile" in given:
        return hostile.main([argument for argument in given if argument != "--hostile"])
    parser = Options("soak", __doc__, "8 clients, 1.5 seconds")
    parser.add(minutes=10.0, clients=64, seed=0)
    parser.add_argument("--hostile", action="store_true", help="hostile clients, with options of their own")
    options = parser.read(given, minutes=0.025)
    clients, seconds = min(options.clients, 8) if options.quick else options.clients, options.minutes * 60
    print(f"ceiling: every request of {clients} clients in {seconds:g} s answered as expected, nothing left behind")
    with TemporaryDirectory() as folder:
        figures = soak(Path(folder), clients, seconds, options.seed)
    print_figures(figures)
    configuration = {"clients": clients, "seconds": seconds, "max_batch": 8, "queue": QUEUE}
    emit(record("soak", figures, configuration=configuration, seeds=[options.seed]), options.out)
    leaked = any(figures["left"].values()) or (seconds >= LONG_S and figures["growth_share"] > MOST_GROWTH)
    return 0 if figures["answered"] == figures["requests"] and not figures["wrong"] and not leaked else 1


def soak(folder: Path, clients: int, seconds: float, seed: int) -> dict[str, Any]:
    """Run the clients against one engine and look at what is left afterwards."""
    settings = tiny_config(folder, limits=Limits(queue=QUEUE), prefix_cache_bytes=CACHE_BYTES)
    tally, memory, process = Tally(), [], psutil.Process()
    with Engine(settings) as engine:
        for schema in all_schemas():
            engine.grammars.compile(Constraint.json_schema(schema))
        until = time.monotonic() + seconds
        draws = [random.Random(seed * 1000 + client) for client in range(clients)]
        threads = [threading.Thread(target=keep_asking, args=(engine, draw, until, tally)) for draw in draws]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            memory.append(round(process.memory_info().rss / 2**20, 1))
            time.sleep(min(1.0, seconds / 20))
        settled = time.monotonic() + 5.0  # a request that was cancelled last is freed at the next step
        while any((left := left_behind(engine)).values()) and time.monotonic() < settled:
            time.sleep(0.05)
    return {
        "requests": tally.asked,
        "answered": sum(tally.outcomes.values()),
        "wrong": tally.wrong[:20],
        "left": left,
        **{f"queue_{name}_ms": round(quantile(sorted(tally.queue_ms), share) or 0.0, 1)
           for name, share in (("p50", 0.5), ("p99", 0.99))},
        "resident_mib": {"tenth": memory[len(memory) // 10], "end": memory[-1], "max": max(memory)},
        "growth_share": _growth(memory),
        "outcomes": dict(sorted(tally.outcomes.items())),
    }  # fmt: skip


def _growth(memory: Sequence[float]) -> float:
    """Resident memory of the last tenth over that around the middle, less 1: what still grows after caches are full."""
    tenth = max(1, len(memory) // 10)
    middle = memory[len(memory) // 2 - tenth // 2 :][:tenth]
    return round(median(memory[-tenth:]) / median(middle) - 1, 4)


if __name__ == "__main__":
    sys.exit(main())
