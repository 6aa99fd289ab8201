"""Clients that want to stop a server: each kind of request, again and again, in a process of its own at low priority.

    python -m bench.hostile_clients PORT NAME ... [--seed N]

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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

HEADERS = {"authorization": "Bearer hostile", "content-type": "application/json"}
Asked = tuple[str, Any]
"""Path, and a body as plain values or bytes."""


@dataclass(frozen=True)
class Attack:
    """`ask(rng)` makes one more request; `clients` at once ask it, and leave after `leave_s` where that is given."""

    codes: frozenset[int]
    ask: Callable[[random.Random], Asked]
    clients: int = 2
    leave_s: float | None = None


def percent_reference(n: int) -> dict[str, Any]:
    """References that only unescaping finds, each read twice: 2^n paths."""
    defs: dict[str, Any] = {f"d{i}": {"allOf": [{"$ref": f"#/%24defs/d{i + 1}"}] * 2} for i in range(n)}
    return {"$defs": {**defs, f"d{n}": {"type": "string", "maxLength": 5}}, "$ref": "#/%24defs/d0"}


def nested_choice(n: int) -> dict[str, Any]:
    """Cheap to compile, forced to write; a validator that tries both branches at every level takes 2^n steps."""
    defs: dict[str, Any] = {f"d{n}": {"type": "null"}}
    for i in range(n):
        below = {"$ref": f"#/$defs/d{i + 1}"}
        kinds = [
            {"type": "object", "properties": {"x": below, "k": k}, "required": ["x", "k"]}
            for k in (False, {"const": 2})
        ]
        defs[f"d{i}"] = {"anyOf": kinds}
    return {"$defs": defs, "$ref": "#/$defs/d0"}


def contains(rng: random.Random) -> dict[str, Any]:
    """Six counts over ten values at once."""
    values = rng.sample(range(10_000), 10)
    counted = [{"contains": {"const": value}, "minContains": 1, "maxContains": 3} for value in values[:6]]
    return {"type": "array", "items": {"enum": values}, "allOf": counted}


def multiple(rng: random.Random) -> dict[str, Any]:
    return {"type": "number", "multipleOf": rng.randrange(1001, 9999, 2) / 1e7}


def keys(rng: random.Random) -> dict[str, Any]:
    a, b = rng.sample("abcdefgh", 2)
    patterns = (f"({a}|{b})*{a}({a}|{b}){{14}}", f"({a}|{b})*{b}({a}|{b}){{13}}c")
    return {"type": "object", "patternProperties": {pattern: {} for pattern in patterns}}


def many_keys(rng: random.Random) -> dict[str, Any]:
    triples = ["".join(rng.sample("abcdefghij", 3)) for _ in range(8)]
    return {"type": "object", "patternProperties": {f"{a}.*{b}.*{c}": {} for a, b, c in triples}}


def after_rollback(rng: random.Random) -> dict[str, Any]:
    low = rng.randrange(1000)
    inner = {"k": {"type": "integer", "minimum": low, "maximum": low + 1}}
    item = {"type": "object", "properties": inner, "required": ["k"], "additionalProperties": False}
    return {"type": "array", "minItems": 2, "maxItems": 3, "uniqueItems": True, "items": item}


def generate(**body: Any) -> Asked:
    return "/generate", {"prompt": "x", "max_tokens": 200, **body}


def schema(make: Callable[[random.Random], dict[str, Any]], **body: Any) -> Callable[[random.Random], Asked]:
    return lambda rng: generate(schema={**make(rng), "$comment": str(rng.random())}, **body)


def excludes(rng: random.Random) -> Asked:
    inner = {"type": "any_text", "excludes": ["a" * 4000 + str(rng.random())]}
    return generate(structural_tag={"type": "structural_tag", "format": inner})


def mistakes(rng: random.Random) -> Asked:
    chat = {"model": "sleeping", "messages": [{"role": "user", "content": "x"}]}
    parameter = rng.choice([{"enum": 7}, {"type": 7}, {"minLength": "x"}, {"anyOf": [1]}, {"pattern": "("}])
    tool = {"name": "f", "parameters": {"type": "object", "properties": {"a": parameter}}}
    return rng.choice([
        ("/generate", {"prompt": "x", "system": "\ud800"}),
        ("/generate", {"messages": [{"role": "\ud800", "content": "x"}]}),
        ("/v1/chat/completions", {**chat, "messages": [{"role": "user", "content": "x", "tool_calls": 7}]}),
        ("/v1/chat/completions", {**chat, "tools": [{"type": "function", "function": tool}]}),
        ("/generate", b'{"prompt":"x","stop":[' + b"1," * 90_000 + b"1]}"),
    ])  # fmt: skip


def always(path: str, body: Any) -> Callable[[random.Random], Asked]:
    return lambda _: (path, body)


OK, REFUSED = 200, 422
ANSWERED = frozenset({OK, REFUSED})
FILLS = "a list of 100"
"""More than the queue holds, at once."""
LIST = {"model": "sleeping", "prompt": ["x"] * 100, "max_tokens": 2000}
ATTACKS: dict[str, Attack] = {
    "nested choice": Attack(ANSWERED, schema(lambda rng: nested_choice(rng.randint(24, 40)), deadline_s=10)),
    "escaped references": Attack(ANSWERED, schema(lambda rng: percent_reference(rng.randint(18, 40)), deadline_s=10)),
    "multipleOf": Attack(ANSWERED, schema(multiple)),
    "long excludes": Attack(ANSWERED, excludes),
    "products of keys": Attack(ANSWERED, schema(keys)),
    "many keys": Attack(ANSWERED, schema(many_keys)),
    FILLS: Attack(frozenset({OK, 429}), always("/v1/completions", LIST), leave_s=4),
    "128 samples": Attack(frozenset({OK}), always(*generate(n=128, max_tokens=400)), leave_s=4),
    "left while admitted": Attack(frozenset({OK, 400}), always(*generate(id="job-42", max_tokens=900)), 4, 0.02),
    "checks": Attack(ANSWERED, lambda rng: ("/check", {"schema": contains(rng)}), 40, 1.5),
    "a long system": Attack(frozenset({400}), always(*generate(system="x y " * 1_125_000))),
    "a long word": Attack(frozenset({400}), always(*generate(system="a" * 4_000_000))),
    "a million lists": Attack(frozenset({413}), always("/generate", b'{"messages":[' + b"[]," * 1_000_000 + b"[]]}")),
    "mistakes": Attack(frozenset({400, REFUSED}), mistakes),
    "deadlines": Attack(
        frozenset({OK, REFUSED, 504}),
        schema(after_rollback, conformance="spec", n=3, temperature=1.0, max_tokens=400, deadline_s=0.1), 4),
}  # fmt: skip


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


SPECIAL = ("silent sockets", "smuggling")
NAMES = (*ATTACKS, *SPECIAL)


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
    parser = argparse.ArgumentParser(prog="bench.hostile_clients")
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
