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
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from bench.record import emit, record, sha256
from bench.tally import quantile
from bench.tiny import tiny_config
from engine.client.acceptance.plan import INFERENCE_SCHEMA, TASKS
from engine.client.environment import auth_headers
from engine.client.providers.fallback import judge
from engine.serve.prices import LISTED

LEVELS = (1, 2, 4, 8, 16, 32, 64)
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: seconds from when it was due, and what came back."""

    seconds: float
    ok: bool
    valid: bool
    tokens: int
    device: str
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every level, print the table and the JSON line; 0 when every document that came was valid."""
    options = parse(arguments)
    bodies = load_bodies(options.prompts, options.max_tokens)
    with service(options) as url:
        levels, device, period = asyncio.run(run(url, bodies, options))
    line = record(
        "load",
        {**asdict(levels[-1]), "levels": [asdict(level) for level in levels], "period_s": period},
        configuration={
            "url": options.url or "a tiny random model",
            "max_tokens": options.max_tokens,
            "quick": options.quick,
        },
        repeats=options.requests,
        data_sha256=sha256([options.prompts]) if options.prompts else None,
        device=device,
    )
    emit(line, options.out)
    return 0 if all(level.valid_share == 1.0 for level in levels) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options; a URL is needed unless --quick."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="Load on a running service.")
    parser.add_argument("url", nargs="?", help="the generate URL, for instance http://127.0.0.1:8000/generate")
    parser.add_argument("--clients", default=",".join(map(str, LEVELS)), help="levels, comma-separated")
    parser.add_argument("--requests", type=int, default=5, help="requests of each client at each level (default 5)")
    parser.add_argument("--period", type=float, help="seconds between two requests of a client")
    parser.add_argument("--prompts", type=Path, help="JSON lines with prompt and schema")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--usd-per-s", type=float, help="price of the service; default the list price of its device")
    parser.add_argument("--quick", action="store_true", help="two clients, one request each, short documents")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if options.quick:
        options.clients, options.requests, options.max_tokens = "1,2", 1, min(options.max_tokens, 48)
    elif not options.url:
        parser.error("give the URL of a service, or --quick")
    options.levels = [int(part) for part in options.clients.split(",")]
    return options


def load_bodies(prompts: Path | None, max_tokens: int) -> list[dict[str, Any]]:
    """Request bodies, greedy and sampled in turn, each with its own seed."""
    if prompts is None:
        told = [{"prompt": f"Write a function to {task}.", "schema": INFERENCE_SCHEMA} for task in TASKS]
    else:
        told = [json.loads(line) for line in prompts.read_text().splitlines() if line.strip()]
    return [
        {"prompt": one["prompt"], "schema": one["schema"], "max_tokens": max_tokens, "temperature": 0.9 * (index % 2),
         "seed": index}
        for index, one in enumerate(told)
    ]  # fmt: skip


async def run(url: str, bodies: list[dict[str, Any]], options: argparse.Namespace) -> tuple[list[Level], str, float]:
    """Warm up, find the period, then every level."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits, follow_redirects=True, headers=auth_headers()) as client:
        warm = [await ask(client, url, bodies[index % len(bodies)], time.perf_counter()) for index in range(WARM_UP)]
        if all(answer.unheard for answer in warm):
            raise SystemExit(f"no service answers at {url}, so nothing is measured: {warm[-1].unheard}")
        device = warm[-1].device
        period = options.period or median(answer.seconds for answer in warm[1:])
        price = options.usd_per_s or LISTED.per_second(device)
        print(f"device {device}; a lone request takes {period:.3f} s; ceiling: the offered load")
        print("clients offered/s  docs/s    tok/s    p50 s    p99 s        ok  valid")
        levels = []
        for clients in options.levels:
            levels.append(await level(client, url, bodies, clients, options.requests, period, price))
            print_level(levels[-1])
    return levels, device, period


async def level(
    client: httpx.AsyncClient,
    url: str,
    bodies: list[dict[str, Any]],
    clients: int,
    requests: int,
    period: float,
    price: float | None,
) -> Level:
    """`clients` senders, staggered over one period, `requests` each."""
    began = time.perf_counter()
    due = [began + period * (turn + number / clients) for turn in range(requests) for number in range(clients)]
    tasks = [asyncio.create_task(ask(client, url, bodies[index % len(bodies)], when)) for index, when in enumerate(due)]
    answers = [await task for task in tasks]
    wall = time.perf_counter() - began
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
        return Answered(
            time.perf_counter() - due,
            ok=False,
            valid=False,
            tokens=0,
            device="",
            unheard=str(error) or type(error).__name__,
        )
    seconds = time.perf_counter() - due
    if response.status_code != httpx.codes.OK:
        return Answered(seconds, ok=False, valid=False, tokens=0, device="")
    valid = judge(body["schema"], answer["ir_json"]) is None
    return Answered(seconds, ok=True, valid=valid, tokens=answer["tokens_used"], device=answer["device"])


def print_level(told: Level) -> None:
    p50, p99 = (f"{value:8.3f}" if value is not None else "       -" for value in (told.p50_s, told.p99_s))
    share = f"{told.ok}/{told.requests}"
    print(
        f"{told.clients:7} {told.offered_per_s:9.2f} {told.documents_per_s:7.2f} {told.tokens_per_s:8.1f} {p50} {p99}"
        f" {share:>9} {told.valid_share:6.1%}"
    )


@contextmanager
def service(options: argparse.Namespace) -> Iterator[str]:
    """The URL given, or a tiny random model behind the real app for as long as the bench runs."""
    if options.url:
        yield options.url
        return
    import threading

    from engine import Engine
    from engine.serve.server.run import GracefulServer
    from engine.serve.service.engine_slot import EngineSlot
    from engine.serve.service.service import Service

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
    raise SystemExit(main())
