"""Clients that want to stop a server: each kind of request, again and again, in a process of its own at low priority.

    python -m bench.soak.attackers PORT NAME ... [--seed N]

prints a line when each kind has begun, and at the end of stdin one JSON object: how often each kind asked and got each
status, and which of them were wrong. A status is wrong when it is not among those that the kind may get; 429 for a
full queue is right for the kind that fills it, and for whoever shares its key meanwhile. `left` is a client that did
not wait.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field

import httpx

from bench.soak.attacks import ATTACKS, FILLS, NAMES

HEADERS = {"authorization": "Bearer hostile", "content-type": "application/json"}


@dataclass
class Seen:
    """What came back."""

    full: bool
    """Whether somebody fills the queue."""
    asked: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, status: int | str, fine: bool, told: str = "") -> None:
        self.statuses[f"{name}: {status}"] += 1
        if not fine and len(self.wrong) < 50:
            self.wrong.append(f"{name}: {status} {told[:200]}")


async def attack(name: str, port: int, rng: random.Random, stop: asyncio.Event, seen: Seen) -> None:
    kind = ATTACKS[name]
    timeout = httpx.Timeout(60 if kind.leave_s is None else kind.leave_s)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=timeout, headers=HEADERS) as client:
        while not stop.is_set():
            path, body = kind.ask(rng)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            seen.asked[name] += 1
            try:
                answer = await client.post(path, content=content)
                fine = answer.status_code in kind.codes or (seen.full and "QueueFull" in answer.text)
                seen.add(name, answer.status_code, fine, answer.text)
            except httpx.TimeoutException:
                seen.add(name, "left", kind.leave_s is not None, "no answer within 60 s")
            except httpx.TransportError as error:
                seen.add(name, type(error).__name__, False, str(error))
            await asyncio.sleep(0.02)


async def silent_sockets(port: int, count: int, stop: asyncio.Event, seen: Seen) -> None:
    """Half say nothing, half begin a header; those that were closed come again."""
    part = b"POST /generate HTTP/1.1\r\nHost: x\r\nX-Slow: "

    async def hold(number: int) -> None:
        while not stop.is_set():
            seen.asked["silent sockets"] += 1
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(part if number % 2 else b"")
                async with asyncio.timeout(20):
                    told = await reader.read()
                seen.add("silent sockets", "closed", told == b"", told.decode("latin-1"))
                writer.close()
            except TimeoutError:
                seen.add("silent sockets", "open after 20 s", False)
            except OSError:
                seen.add("silent sockets", "closed", True)
            await asyncio.sleep(1.0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(hold(number)) for number in range(count)]
        await stop.wait()
        for task in tasks:
            task.cancel()


async def smuggling(port: int, stop: asyncio.Event, seen: Seen) -> None:
    """A body sized twice, a second request behind it: one answer, and the end."""
    head = b"POST /check HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    while not stop.is_set():
        seen.asked["smuggling"] += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            told = await asyncio.wait_for(reader.read(), 30)
            writer.close()
            fine = told.startswith(b"HTTP/1.1 400 ") and told.count(b"HTTP/1.1 ") == 1
            seen.add("smuggling", told[9:12].decode("latin-1") or "closed", fine or told == b"", told.decode("latin-1"))
        except TimeoutError:
            seen.add("smuggling", "no answer", False)
        except OSError:
            seen.add("smuggling", "closed", True)
        await asyncio.sleep(0.05)


async def run(port: int, names: list[str], seed: int, sockets: int) -> Seen:
    """Until stdin ends."""
    seen, stop, loop = Seen(full=FILLS in names), asyncio.Event(), asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    async def tell() -> None:
        while not seen.asked.keys() >= set(names):
            await asyncio.sleep(0.05)
        print("begun", flush=True)

    threading.Thread(target=wait, daemon=True).start()
    async with asyncio.TaskGroup() as group:
        group.create_task(tell())
        for name in names:
            if name == "silent sockets":
                group.create_task(silent_sockets(port, sockets, stop, seen))
            elif name == "smuggling":
                group.create_task(smuggling(port, stop, seen))
            else:
                for number in range(ATTACKS[name].clients):
                    group.create_task(attack(name, port, random.Random(f"{seed} {name} {number}"), stop, seen))
        await stop.wait()
        await asyncio.sleep(0.2)
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak.attackers")
    parser.add_argument("port", type=int)
    parser.add_argument("names", nargs="+", choices=NAMES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sockets", type=int, default=2000)
    options = parser.parse_args()
    os.nice(10)
    seen = asyncio.run(run(options.port, options.names, options.seed, options.sockets))
    told = {"asked": dict(seen.asked), "statuses": dict(sorted(seen.statuses.items())), "wrong": seen.wrong}
    print(json.dumps(told), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
