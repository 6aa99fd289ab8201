"""Load on a running service: latency, throughput, validity and cost as clients are added.

    python -m bench.load URL [--clients 1,2,4,8,16,32,64] [--requests N] [--period S] [--prompts FILE.jsonl]
                             [--max-tokens N] [--usd-per-s X] [--quick] [--out DIR]

Open loop: each client sends every `--period` seconds whether or not it has been answered, so a slow service meets the
same load as a quick one, and latency counts from the moment a request was due. Without `--period` it is the median
latency of a lone request. Ceiling: the offered load. The JSON line holds the last level's figures and all `levels`.
`--quick` without a URL serves a tiny random model here.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from bench.datasets.cases import json_lines
from bench.harness.commandline import Options
from bench.harness.models import tiny_config
from bench.harness.record import emit, record
from bench.harness.statistics import quantile
from engine.client.acceptance.plan import INFERENCE_SCHEMA, TASKS
from engine.client.environment import auth_headers
from engine.client.providers.fallback import judge
from engine.serve.prices import LISTED
from engine.serve.server.run import GracefulServer
from engine.serve.service.engine_slot import EngineSlot
from engine.serve.service.service import Service

LEVELS = (1, 2, 4, 8, 16, 32, 64)
WARM_UP = 3
"""Lone requests before the first level; the first of them compiles and is left out of the period."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: seconds from when it was due, and what came back."""

    seconds: float
    ok: bool = False
    valid: bool = False
    tokens: int = 0
    device: str = ""
    unheard: str = ""
    """Why no answer came at all."""


@dataclass(frozen=True, slots=True)
class Level:
    """One line of the table. Latencies are of answered requests; None where nothing was answered."""

    clients: int
    requests: int
    offered_per_s: float
    ok: int
    p50_s: float | None
    p99_s: float | None
    tokens_per_s: float
    documents_per_s: float
    valid_share: float
    cost_per_document_usd: float | None

    def __str__(self) -> str:
        p50, p99 = (f"{value:8.3f}" if value is not None else "       -" for value in (self.p50_s, self.p99_s))
        rates = f"{self.clients:7} {self.offered_per_s:9.2f} {self.documents_per_s:7.2f} {self.tokens_per_s:8.1f}"
        return f"{rates} {p50} {p99} {f'{self.ok}/{self.requests}':>9} {self.valid_share:6.1%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every level, print the table and the JSON line; 0 when every document that came was valid."""
    options = parse(arguments)
    bodies = load_bodies(options.prompts, options.max_tokens)
    with service(options.url) as url:
        levels, device, period = asyncio.run(run(url, bodies, options))
    configuration = {"url": options.url or "a tiny random model", "max_tokens": options.max_tokens}
    line = record(
        "load", {**asdict(levels[-1]), "levels": [asdict(level) for level in levels], "period_s": period},
        configuration=configuration | {"quick": options.quick}, repeats=options.requests, device=device,
        data=[options.prompts] if options.prompts else [],
    )  # fmt: skip
    emit(line, options.out)
    return 0 if all(level.valid_share == 1.0 for level in levels) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options; a URL is needed unless --quick."""
    parser = Options("load", __doc__, "two clients, one request each, short documents")
    parser.add_argument("url", nargs="?", help="the generate URL, for instance http://127.0.0.1:8000/generate")
    parser.add(clients=LEVELS)
    parser.add_argument("--requests", type=int, default=5, help="requests of each client at each level (default 5)")
    parser.add_argument("--period", type=float, help="seconds between two requests of a client")
    parser.add_argument("--prompts", type=Path, help="JSON lines with prompt and schema")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--usd-per-s", type=float, help="price of the service; default the list price of its device")
    options = parser.read(arguments, clients=[1, 2], requests=1)
    if options.quick:
        options.max_tokens = min(options.max_tokens, 48)
    elif not options.url:
        parser.error("give the URL of a service, or --quick")
    return options


def load_bodies(prompts: Path | None, max_tokens: int) -> list[dict[str, Any]]:
    """Request bodies, greedy and sampled in turn, each with its own seed."""
    own = [{"prompt": f"Write a function to {task}.", "schema": INFERENCE_SCHEMA} for task in TASKS]
    return [
        {"prompt": one["prompt"], "schema": one["schema"], "max_tokens": max_tokens, "temperature": 0.9 * (index % 2),
         "seed": index}
        for index, one in enumerate(json_lines(prompts) if prompts else own)
    ]  # fmt: skip


async def run(url: str, bodies: list[dict[str, Any]], options: argparse.Namespace) -> tuple[list[Level], str, float]:
    """Warm up, find the period, then every level."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits, follow_redirects=True, headers=auth_headers()) as client:

        async def ask_nth(index: int, due: float) -> Answered:
            return await ask(client, url, bodies[index % len(bodies)], due)

        async def level(clients: int) -> Level:
            """`clients` senders, staggered over one period."""
            began = time.perf_counter()
            places = [turn + number / clients for turn in range(options.requests) for number in range(clients)]
            asked = (ask_nth(index, began + period * place) for index, place in enumerate(places))
            answers = await asyncio.gather(*asked)
            return summary(clients, period, price, answers, time.perf_counter() - began)

        warm = [await ask_nth(index, time.perf_counter()) for index in range(WARM_UP)]
        if all(answer.unheard for answer in warm):
            raise SystemExit(f"no service answers at {url}, so nothing is measured: {warm[-1].unheard}")
        device = warm[-1].device
        period = options.period or median(answer.seconds for answer in warm[1:])
        price = options.usd_per_s or LISTED.per_second(device)
        print(f"device {device}; a lone request takes {period:.3f} s; ceiling: the offered load")
        print("clients offered/s  docs/s    tok/s    p50 s    p99 s        ok  valid")
        levels = []
        for clients in options.clients:
            levels.append(await level(clients))
            print(levels[-1])
    return levels, device, period


def summary(clients: int, period: float, price: float | None, answers: Sequence[Answered], wall: float) -> Level:
    """What a level of `wall` seconds came to."""
    good = [answer for answer in answers if answer.ok]
    seconds = sorted(answer.seconds for answer in good)
    return Level(
        clients=clients,
        requests=len(answers),
        offered_per_s=clients / period,
        ok=len(good),
        p50_s=quantile(seconds, 0.5),
        p99_s=quantile(seconds, 0.99),
        tokens_per_s=sum(answer.tokens for answer in good) / wall,
        documents_per_s=len(good) / wall,
        valid_share=sum(answer.valid for answer in good) / len(good) if good else 0.0,
        cost_per_document_usd=price * wall / len(good) if price and good else None,
    )


async def ask(client: httpx.AsyncClient, url: str, body: dict[str, Any], due: float) -> Answered:
    """Send when due; judge the document here, whatever the service says of it."""
    await asyncio.sleep(max(0.0, due - time.perf_counter()))
    try:
        response = await client.post(url, json=body)
        answer = response.json()
    except (httpx.HTTPError, ValueError) as error:
        return Answered(time.perf_counter() - due, unheard=str(error) or type(error).__name__)
    seconds = time.perf_counter() - due
    if response.status_code != httpx.codes.OK:
        return Answered(seconds)
    return Answered(
        seconds, True, judge(body["schema"], answer["ir_json"]) is None, answer["tokens_used"], answer["device"]
    )


@contextmanager
def service(url: str | None) -> Iterator[str]:
    """The URL given, or a tiny random model behind the real app for as long as the bench runs."""
    if url:
        yield url
        return
    from engine import Engine  # torch: whoever measures a service of another machine needs none

    with TemporaryDirectory() as folder:
        served = Service(EngineSlot.holding(Engine(tiny_config(Path(folder)))))
        server = GracefulServer(served, "127.0.0.1", 0)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/generate"
        finally:
            server.should_exit = True
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
